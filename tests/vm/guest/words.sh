# SPDX-License-Identifier: MIT OR Apache-2.0
#
# What several scenarios do, in one word each; init reads this before the scenario's run.sh. It promises nothing of its
# own: must() and mark() are init's.

# A daemon with these flags: start FLAG...
start() {
    addonce daemon --scan "$@" >>$LOG 2>&1 &
    DAEMON=$!
}
# The same, once it listens: listening FLAG...
listening() {
    start "$@"
    wait_for /run/addonce/io.addonce 60
    mark ready
}
# udev, and what systemd has it do at boot.
coldplug() {
    must /usr/lib/systemd/systemd-udevd --daemon --resolve-names=never
    mark trigger
    must udevadm trigger --type=subsystems --action=add
    must udevadm trigger --type=devices --action=add
}
# udevadm's default gives up after 120 s; the lab's own time limit is what ends a run that hangs.
udev_settled() { must udevadm settle --timeout=3600; }
# udev's last events may have given addonce work, and what addonce loaded last may have given udev some.
both_settled() {
    for again in 1 2; do
        udev_settled
        must addonce settle --timeout 300
    done
}
# Modules that nothing else of the guest uses go, and what brings them back is asked for.
another_storm() {
    for module in evdev psmouse button pcspkr joydev; do modprobe -r $module 2>/dev/null; done
    must udevadm trigger --type=devices --action=add
}
# Has the scenario's kill_one() kill somebody, N times, a random part of a second apart, and always in a storm: should one
# be over before, there is another. kill_often N
kill_often() {
    kills=0
    while [ $kills -lt "$1" ]; do
        [ -e /run/udev/queue ] || another_storm
        sleep 0.$((RANDOM % 9 + 1))
        kill_one && kills=$((kills + 1))
    done
    mark killed
}
# A storm in which the daemon is killed twenty times and started again as systemd would: killed_daemon FLAG...
killed_daemon() {
    FLAGS=$*
    # shellcheck disable=SC2086 # flags, a word each
    kill_one() {
        kill -9 $DAEMON
        sleep 0.1
        start $FLAGS
    }
    listening "$@"
    coldplug
    kill_often 20
    both_settled
}
