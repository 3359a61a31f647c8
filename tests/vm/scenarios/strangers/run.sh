# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# needs: rules
# needs: fixtures
# needs: programs setpriv flock
# modules: none
# Somebody without privileges who connects without end, and holds a lock on a file that has the inode number of addonce's:
# beside both, a load takes as long as beside somebody who is as busy with something else. By turns, for what the host does meets
# all; the median of the turns counts, with the daemon as a service and without.

prepare() {
    must insmod $EXTRA/addonce_bus.ko
    device one eight0 quiet
    udevd
}
# By their paths: the shell prefers busybox' own of these names.
NOBODY="/usr/bin/setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all"
# Both do the same but for the name that is connected to. No function: a shell that runs one is the parent of the loop, and not it.
busy_with() {
    $NOBODY sh -c 'while :; do addonce load nothing --socket '"$1"' >/dev/null 2>&1; addonce status >/dev/null 2>&1; done' stranger &
    STRANGER=$!
}
idle_again() {
    kill $STRANGER
    wait $STRANGER 2>/dev/null
    left=$(cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ' | grep -c '[w]hile :; do addonce load')
    [ "$left" = 0 ] || fail "$left strangers are left of those that were there before"
}
# A file with the inode number of FILE, in a file system of its own, locked: lock_twin FILE
lock_twin() {
    inode=$(stat -c %i "$1") || fail "$1 is not there"
    mkdir -p /tmp/twin
    must mount -t tmpfs -o mode=777 twin /tmp/twin
    n=0
    until [ -e /tmp/twin/$n ] && [ "$(stat -c %i /tmp/twin/$n)" = "$inode" ]; do
        n=$((n + 1))
        $NOBODY touch /tmp/twin/$n
        [ $n -lt 5000 ] || fail "no file gets the inode number $inode of $1"
        [ "$(stat -c %i /tmp/twin/$n)" -le "$inode" ] || fail "the inode number $inode of $1 is passed by"
    done
    $NOBODY /usr/bin/flock /tmp/twin/$n sleep 3600 &
}
# How long one load takes, in hundredths: from the trigger until udev has settled. LATENCY
load() {
    [ ! -e /sys/module/addonce_eight0 ] || must rmmod addonce_eight0
    now
    from=$NOW
    must udevadm trigger --action=add /sys/bus/addonce/devices/one
    must udevadm settle --timeout=100
    now
    must_be_live addonce_eight0
    LATENCY=$((NOW - from))
}
median() { sort -n | sed -n "$((TURNS / 2 + 1))p"; }
# turns WHAT TURNS
turns() {
    TURNS=$2
    load
    turn=0
    while [ $turn -lt $TURNS ]; do
        busy_with /run/nowhere
        load
        echo $LATENCY >>/run/lab/quiet
        idle_again
        busy_with /run/addonce/io.addonce
        load
        echo $LATENCY >>/run/lab/strange
        idle_again
        turn=$((turn + 1))
    done
    quiet=$(median </run/lab/quiet)
    strange=$(median </run/lab/strange)
    rm /run/lab/quiet /run/lab/strange
    echo "$1: $quiet and, beside strangers, $strange hundredths" >>$LOG
    # A hundredth is as exact as the clock is.
    [ $((strange * 100)) -le $((quiet * 110 + 100)) ] || fail "$1: a load takes $strange hundredths beside strangers, else $quiet"
    mark "$1"
}

storm() {
    must udevadm trigger --type=subsystems --action=add
    udev_settled
    listening
    lock_twin /run/addonce/lock
    turns service 9
    kill $DAEMON
    wait $DAEMON
    DAEMON=
    # Each load starts a daemon here.
    turns program 5
}
