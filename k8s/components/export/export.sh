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
# Training takes minutes: a store that can't be written is found before it.
if ! mkdir -p "/models/$MODEL" || ! probe=$(mktemp -d "/models/$MODEL/.probe-XXXXXX"); then
  echo "error: Expected /models/$MODEL to be writable. Received: the error above, as user $(id -u), group $(id -g)" >&2
  exit 1
fi
rmdir "$probe"
python -m export data /tmp/data
python -m export train /tmp/data --out /tmp/run
python -m export export /tmp/run --store /models --name "$MODEL" ${1:+--version "$1"}
