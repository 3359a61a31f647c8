# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# needs: rules
# programs: at most 15 %
# Nothing is started beforehand: the first program that udev runs starts a daemon for the occasion.

storm() {
    coldplug
    udev_settled
}

# What udev itself makes of the rules: accepted, and the program is run. And the daemon goes when nothing is left.
afterwards() {
    tries=100
    while pidof addonce >/dev/null; do
        [ $tries -gt 0 ] || fail "the daemon is still there 10 s after settle"
        tries=$((tries - 1))
        sleep 0.1
    done
    udevadm test --action=add /sys/devices/system/cpu/cpu0 >/run/lab/test 2>&1
    # run: 'PROGRAM', or since 257 RUN{program} : PROGRAM
    grep -Eiq "^ *run(\{program\} *)?: *'?/usr/bin/addonce-load'?$" /run/lab/test ||
        fail "udevadm test does not run addonce-load: $(tail -n 5 /run/lab/test)"
    fault=$(grep '80-drivers.rules:[0-9]* *\(Invalid\|Unknown\|Unexpected\|Missing\|Failed\)' /run/lab/test)
    [ -z "$fault" ] || fail "udevadm test finds fault: $fault"
}
