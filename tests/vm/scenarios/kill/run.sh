# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# needs: rules
# Whoever takes part is killed often at random moments of storms, with the daemon as a service: the process of a load,
# the program, the daemon (started again as systemd would) and udevd (started again, and triggered, for what it had is lost with
# it). In the end all is live, settle returns, and storms and deaths explain every insert call.

storm() {
    udevd
    listening
    trigger
    kill_often $(kills) kill_load
    kill_often $(kills) kill_program
    kill_often $(kills) kill_daemon
    kill_often $(kills) kill_udevd
    udev_settled
    tries_explained $((2 * $(kills)))
}
# The process of a load is named after its module.
kill_load() {
    for process in /proc/[0-9]*; do
        { read -r name <$process/comm; } 2>/dev/null || continue
        case $name in +*) kill -9 ${process#/proc/} && return ;; esac
    done
    return 1
}
kill_program() { killall -9 addonce-load 2>/dev/null; }
# A program that waits may have started the next one before we do: whichever there is is killed.
kill_daemon() {
    killall -9 addonce 2>/dev/null || return
    sleep 0.1
    start
}
kill_udevd() {
    kill -9 $(pidof systemd-udevd) || return
    udevd
    another_storm
}
