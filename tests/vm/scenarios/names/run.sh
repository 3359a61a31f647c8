# SPDX-License-Identifier: MIT OR Apache-2.0
# needs: addonce
# needs: rules
# needs: fixtures
# needs: selftest
# needs: programs perl
# Somebody without privileges has the kernel ask for names that no two are alike, by binding sockets of AF_ALG: the daemon keeps none of
# them, and answers devices meanwhile.

NAMES=1000
# What they may cost, in KiB.
MEMORY=1024
peak() { sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB$/\1/p' /proc/$DAEMON/status; }
requests() { addonce status --json | sed -n '/"kernel":/,/}/s/^ *"requests": \([0-9]*\).*/\1/p'; }
names() { /usr/bin/perl /lab/names.pl "$1" $DAEMON >>$LOG 2>&1 || fail "names.pl: $(tail -n 1 $LOG)"; }

storm() {
    # Each would be a line.
    echo 0 >$T/events/sched/sched_process_exec/enable
    udevd
    udev_settled
    listening --kernel-requests
    wait_for /run/addonce/modprobe 10
    sleep 0.2
    must modprobe addonce_bus
    must modprobe addonce_eight0
    # What is paid once.
    names 200
    idle=$(peak)
    before=$(requests)
    names $NAMES
    peak=$(peak)
    asked=$(($(requests) - before))
    echo "$asked requests of the kernel's: $idle KiB before, $peak KiB at the peak" >>$LOG
    [ $asked -ge $NAMES ] || fail "the kernel has asked $asked times for $NAMES names"
    [ "$idle" -gt 0 ] && [ $((peak - idle)) -le $MEMORY ] || fail "$NAMES names cost $((peak - idle)) KiB"
    addonce status >>$LOG
}
