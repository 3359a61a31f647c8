# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# needs: rules
# What one question costs, exec to exit, for modules that are live: modprobe, what udev runs of addonce's, and `addonce load`
# by hand, all beside a daemon and all by way of env, which sets what udev would. By turns, so that what the host does meanwhile meets
# all of them; the log holds a line per turn, with the hundredths of a second that 20 runs took.

ROUNDS=5
ALIAS=$(cat /sys/devices/pci0000:00/0000:00:1f.2/modalias)
DEVICE="ACTION=add DEVPATH=/devices/pci0000:00/0000:00:1f.2 SYNTH_UUID=0 MODALIAS=$ALIAS"

twenty() {
    name=$1
    shift
    now
    from=$NOW
    n=0
    while [ $n -lt 20 ]; do
        # shellcheck disable=SC2086 # assignments, a word each
        env $DEVICE "$@" || fail "'$*' exited with $?"
        n=$((n + 1))
    done
    now
    echo "$name $((NOW - from))" >>$LOG
}

storm() {
    must modprobe "$ALIAS"
    addonce daemon 2>/run/lab/daemon &
    DAEMON=$!
    wait_for /run/addonce/io.addonce 60
    must addonce settle --timeout 300
    for turn in $(seq $ROUNDS); do
        twenty modprobe /usr/sbin/modprobe -b "$ALIAS"
        twenty addonce-load /usr/bin/addonce-load
        twenty addonce /usr/bin/addonce load "$ALIAS" >/dev/null
    done
}
