# SPDX-License-Identifier: MIT OR Apache-2.0
# boots: debian
# needs: deb
# kernel: blacklist=psmouse
# not in the initramfs: psmouse
# The package was installed before the boot: addonce loads, in the initramfs and after it. initramfs-tools
# has a module blacklisted in its image that the kernel's command line names: that one is loaded later.
# Then it is restarted, and killed, with nothing else going on: that alone is no attempt. Then, with modules unloaded, there
# are storms in which it is killed: all are live again, and what fails was tried once for each storm, and once more for each
# kill at the most, for a load that was in the air then has no outcome.

STORMS=4

pid() { systemctl show -P MainPID addonce.service; }
inserts() { grep -cE 'sys_(finit|init)_module\(' $T/trace; }
count() { addonce status --json | sed -n "s/^ *\"$1\": \([0-9]*\).*/\1/p"; }
# Each module that failed, with how often it was tried; which was asked for last, and so comes first, does not matter.
failed() { addonce failed --json | grep -E '^ *"(module|attempts)": ' | paste - - | sort; }
# The service manager starts it again, and its first scan is over: killed PID
again() {
    while [ "$(pid)" = "$1" ] || [ "$(systemctl is-active addonce.service)" != active ]; do sleep 0.1; done
    settled
    [ "$(count drops)" = 0 ] || fail "events were lost: $(count drops)"
}
# What nothing else of the guest uses, and what brings it back.
UNLOAD="evdev psmouse button pcspkr joydev"

restarted() {
    while addonce failed --json | grep -q '"again_in_ms": [0-9]'; do sleep 1; done
    settled
    failed >/run/lab/failed
    [ -s /run/lab/failed ] || fail "nothing failed: nothing can be told of attempts"
    calls=$(inserts)
    before=$(pid)
    must systemctl restart addonce.service
    again "$before"
    before=$(pid)
    kill -9 "$before"
    again "$before"
    [ "$(inserts)" = "$calls" ] || fail "a restart alone brought $(($(inserts) - calls)) insert calls"
    failed >/run/lab/failed-again
    diff /run/lab/failed /run/lab/failed-again >>$LOG || fail "a restart alone changed what is known of failures"
}
killed_in_storms() {
    unloaded=
    for module in $UNLOAD; do
        [ -e /sys/module/$module/initstate ] && modprobe -r $module && unloaded="$unloaded $module"
    done
    [ -n "$unloaded" ] || fail "nothing could be unloaded"
    echo "unloaded:$unloaded" >>$LOG
    echo "lab: storms" >$T/trace_marker
    storm=0
    while [ $storm -lt $STORMS ]; do
        must udevadm trigger --type=devices --action=add
        sleep 0.$((storm * 2 + 1))
        before=$(pid)
        kill -9 "$before"
        again "$before"
        storm=$((storm + 1))
    done
    for module in $unloaded; do
        [ "$(cat /sys/module/$module/initstate)" = live ] || fail "$module is not live again"
    done
    failed | tee /run/lab/failed-again | section failed-attempts
    for attempts in $(sed -n 's/.*"attempts": \([0-9]*\).*/\1/p' /run/lab/failed-again); do
        [ "$attempts" -le $((1 + 2 * STORMS)) ] || fail "a module was tried $attempts times in $STORMS storms"
    done
    echo "insert calls in the storms: $(($(inserts) - calls))" >>$LOG
    units=$(systemctl list-units --failed --plain --no-legend | cut -d ' ' -f 1 | paste -s -d ' ' -)
    [ -z "$units" ] || fail "units failed, in the boot or the storms: $units"
}

# First what an administrator would ask, once the storm counts as over.
afterwards() {
    sleep 6
    addonce failed | section failed
    addonce plot --json | section storm
    addonce status --json >>$LOG
    journalctl --boot --no-pager --no-hostname --output short-monotonic --unit addonce.service >>$LOG
    restarted
    killed_in_storms
}
