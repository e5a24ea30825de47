#!/bin/sh
# A test of stop.sh. QMPD names the program, where it is not on the path.
set -e
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
${QMPD:-qmpd} serve --socket "$folder/qmp.sock" --control "unix:$folder/control.sock" \
    --guest boot-time=0,firmware=none,powerdown-delay=10m --clock virtual > "$folder/log" &
machine=$!
trap 'kill $machine 2>/dev/null || true; rm -rf "$folder"' EXIT
until [ -S "$folder/control.sock" ]; do sleep 0.05; done
# The guest boots.
${QMPD:-qmpd} control "$folder/control.sock" clock-run-until-quiet > "$folder/answer"

"$here/stop.sh" "$folder/qmp.sock" &
stopping=$!
# The guest takes ten minutes of its own time, once it has heard the button.
until ${QMPD:-qmpd} control "$folder/control.sock" query-transcript kind=event | grep -q POWERDOWN; do sleep 0.05; done
${QMPD:-qmpd} control "$folder/control.sock" clock-advance time=10m > "$folder/answer"
wait $machine
wait $stopping
echo "the machine has been stopped"
