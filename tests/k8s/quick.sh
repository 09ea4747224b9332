#!/bin/sh
# A server that is up at once, for the moments right after the start.
echo serving
exec sleep 60
