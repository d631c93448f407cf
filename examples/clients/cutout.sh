#!/bin/sh
# Cut out a picture with a birefnet server and curl 7.76 or later.
#
#   sh cutout.sh chelsea.jpg cutout.png
#   sh cutout.sh chelsea.jpg cat.webp format=webp background=white resolution=512
#
# BIREFNET_URL names the server, BIREFNET_API_KEY its key.
set -eu
if [ $# -lt 2 ]; then
  echo "sh cutout.sh PICTURE RESULT [OPTION=VALUE …]" >&2
  exit 2
fi
source=$1 target=$2
shift 2
for option; do
  set -- "$@" --form-string "$option"
  shift
done
# --retry waits as long as Retry-After says.
curl -sS --fail-with-body --retry 4 --max-time 180 -H "X-Api-Key: ${BIREFNET_API_KEY:-}" \
  -F "file=@$source" "$@" -o "$target" "${BIREFNET_URL:-http://127.0.0.1:8000}/v1/remove" || {
  status=$?
  [ ! -f "$target" ] || cat "$target" >&2 # the server's sentence, which is no picture
  rm -f "$target"
  exit $status
}
