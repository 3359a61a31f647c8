# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# needs: rules
# needs: fixtures
# modules: none
# A module whose init takes a minute, and the daemon killed meanwhile; and one whose init is a bug of the kernel's.

# Seconds until COMMAND... succeeds, at most 1: within_a_second WHAT COMMAND...
within_a_second() {
    what=$1
    shift
    now
    from=$NOW
    until "$@"; do
        sleep 0.02
        now
        [ $((NOW - from)) -le 100 ] || fail "$what: not within a second"
    done
    mark "$what"
}
# 3: nobody does.
answers() {
    addonce load nothing >/dev/null 2>&1
    [ $? != 3 ]
}
failed() { addonce failed 2>/dev/null | grep -q "^addonce_$1 "; }

prepare() {
    must insmod $EXTRA/addonce_bus.ko
    udevd
}
storm() {
    must udevadm trigger --type=subsystems --action=add
    udev_settled
    listening
    device hang hang0
    wait_for /sys/module/addonce_hang0 60
    kill -9 $DAEMON
    wait $DAEMON
    # The program that waits for the module may be faster than we are, and start the next one itself.
    start
    until answers; do sleep 0.1; done
    device swift swift
    within_a_second "another module, with the next daemon" is_live addonce_swift
    device bug hang1
    wait_for /sys/module/addonce_hang1 60
    within_a_second "a bug is a failure" failed hang1
    # The kernel stops tracing at a bug.
    echo 1 >$T/tracing_on
    device late late
    within_a_second "another module, after the bug" is_live addonce_late
    must udevadm settle --timeout=170
    must_be_live addonce_hang0
    for name in hang0 swift hang1 late; do
        [ "$(inserts addonce_$name)" = 1 ] || grep -E 'ko_open: |sys_(finit|init)_module' $T/trace >>$LOG
        [ "$(inserts addonce_$name)" = 1 ] || fail "addonce_$name was tried $(inserts addonce_$name) times"
    done
    pidof addonce >/dev/null || fail "the daemon is gone"
}
