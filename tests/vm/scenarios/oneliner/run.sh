# SPDX-License-Identifier: MIT OR Apache-2.0
# not asked for: ppdev sg
# No udev and no addonce: what administrators type, again and again until no new module comes in. It sees what a bus
# has, not what a class has (input: evdev), and it tries again in each pass what failed in the one before.

names() { cut -d ' ' -f 1 /proc/modules | sort; }

storm() {
    after=$(names)
    until
        before=$after
        grep -h MODALIAS /sys/bus/*/devices/*/uevent | cut -d= -f2- | sort -u | xargs /usr/sbin/modprobe -abq
        mark pass
        after=$(names)
        [ "$before" = "$after" ]
    do :; done
    mark settled
}
