# SPDX-License-Identifier: MIT OR Apache-2.0
#
# What several scenarios do, in one word each; init reads this before the scenario's run.sh. must(), mark() and fail() are
# init's.

udevd() { must /usr/lib/systemd/systemd-udevd --daemon --resolve-names=never; }
# A daemon with these flags, started after udev, as systemd's order has it, and with the unit's priority: start FLAG...
start() {
    nice -n -10 addonce daemon "$@" >>$LOG 2>&1 &
    DAEMON=$!
}
# The same, once it listens: listening FLAG...
listening() {
    start "$@"
    wait_for /run/addonce/io.addonce 60
    mark ready
}
# What systemd has udev do at boot.
trigger() {
    mark trigger
    must udevadm trigger --type=subsystems --action=add
    must udevadm trigger --type=devices --action=add
}
coldplug() {
    udevd
    trigger
}
# udevadm's default gives up after 120 s; the lab's own time limit is what ends a run that hangs. Nothing else is waited for:
# what is live is read right afterwards.
udev_settled() {
    must udevadm settle --timeout=3600
    mark settled
}
is_live() { [ "$(cat /sys/module/$1/initstate 2>/dev/null)" = live ]; }
must_be_live() { is_live $1 || fail "$1 is not live when udevadm settle returns${2:+: $2}"; }

# Modules that nothing else of the guest uses.
SPARE="evdev psmouse button pcspkr joydev"
# Those that are live go, and UNLOADED names them.
unload() {
    UNLOADED=
    for module in $SPARE; do
        is_live $module && modprobe -r $module 2>/dev/null && UNLOADED="$UNLOADED $module"
    done
}
# How often each of those who take part is killed: a storm on few CPUs is short, and its loads are hard to meet.
kills() { if [ -e /sys/devices/system/cpu/cpu63 ]; then echo 20; else echo 5; fi; }
# Kills somebody N times, a random part of a second apart, and always in a storm: should one be over before, there is another,
# for modules that were unloaded. kill_often N COMMAND..., COMMAND failing where nobody was there to be killed: it is tried for
# a second.
kill_often() {
    kills=0 times=$1
    shift
    while [ $kills -lt $times ]; do
        [ -e /run/udev/queue ] || another_storm
        sleep 0.$((RANDOM % 9 + 1))
        tries=20
        until "$@"; do
            tries=$((tries - 1))
            [ $tries -gt 0 ] || continue 2
            sleep 0.05
        done
        kills=$((kills + 1))
    done
    mark "$*"
}
STORMS=1
another_storm() {
    unload
    STORMS=$((STORMS + 1))
    must udevadm trigger --type=devices --action=add
}
# Each storm explains one insert call of a module, and so does each death of who loads; nothing else does: tries_explained DEATHS
tries_explained() { say "fact most_tries $((STORMS + $1))"; }

# The fixtures: a bus whose devices are made to order, and modules that do as they are told.
EXTRA=/usr/lib/modules/$(uname -r)/extra
# A device that asks for a fixture, with an uevent of its own or, "quiet", as if it had been there before: device NAME MODULE [quiet]
device() { echo "$1 addonce:addonce_$2 $3" >/sys/bus/addonce/new_device || fail "no device $1"; }
# How many insert calls there were so far, of one module or of all; the trace is on.
inserts() {
    grep -E 'ko_open: |sys_(finit|init)_module\(' $T/trace | if [ $# = 0 ]; then
        grep -c module\(
    else
        # What a thread opened last is what it inserts.
        awk -v wanted="/$1.ko" '
            { thread = $1 }
            /ko_open: / { opened[thread] = $0; next }
            index(opened[thread], wanted) { calls++ }
            END { print calls + 0 }'
    fi
}
