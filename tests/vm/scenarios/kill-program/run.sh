# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# needs: rules
# As kill, without a service: the daemon that is killed is the one that a program started, and the next program starts another.

storm() {
    coldplug
    kill_often $(kills) kill_program
    kill_often $(kills) kill_daemon
    kill_often $(kills) kill_udevd
    udev_settled
    tries_explained $(kills)
}
kill_program() { killall -9 addonce-load 2>/dev/null; }
kill_daemon() { killall -9 addonce 2>/dev/null; }
kill_udevd() {
    kill -9 $(pidof systemd-udevd) || return
    udevd
    another_storm
}
