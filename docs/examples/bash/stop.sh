#!/bin/sh
# stop.sh SOCKET: press the power button and wait for the end, 90 seconds at most.
printf '%s\n' '{"execute": "qmp_capabilities"}' '{"execute": "system_powerdown"}' |
    timeout 90 socat "-,ignoreeof" "UNIX-CONNECT:$1" | grep -q '"event": "SHUTDOWN"'
