#!/bin/sh
# Trains, checks and publishes one version: `export.sh` the next, `export.sh N` version N, if
# it is not there. The gate is part of the export: what fails it is not published.
# Put your own data in the place of the demo's: a folder with images/ and manifest.csv.
set -eu
MODEL=emoji
if [ $# -gt 0 ] && [ -e "/models/$MODEL/$1/saved_model.pb" ]; then
  echo "version $1 of $MODEL is there already"
  exit 0
fi
python -m export data /tmp/data
python -m export train /tmp/data --out /tmp/run
python -m export export /tmp/run --store /models --name "$MODEL" ${1:+--version "$1"}
