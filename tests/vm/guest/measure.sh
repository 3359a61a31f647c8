# SPDX-License-Identifier: MIT OR Apache-2.0
#
# What is measured, and how it is said: read by every script of the lab that runs in a guest. It owns the result's format
# (sections and facts, read by src/raw.rs), which events the kernel traces, and the clocks. It promises that a guest that is
# booted from a disk is measured as one that has nothing but an initramfs.

T=/sys/kernel/tracing

# Raw, or the line discipline would turn every newline into two bytes.
open_result() {
    stty raw -echo </dev/ttyS1
    exec 3>/dev/ttyS1
}
say() { echo "@@$*" >&3; }
section() { say "section $1"; cat >&3; say end; }
# The last words, with what the scenario logged before them.
last() {
    [ -s $LOG ] && section log <$LOG
    say "$@"
    exec 3>&-
    busybox poweroff -f
}
fail() { last fail "$*"; sleep 60; }
must() { "$@" || fail "'$*' exited with $?"; }
# /proc/uptime in hundredths, by the shell alone: no process is started to read the clock.
now() { read -r up _ </proc/uptime; NOW=${up%.*}${up#*.}; NOW=${NOW#0}; }
mark() { now; say "mark $((NOW - BEGAN)) $*"; }
# A hundred times a second, and no program is started to wait: what waits for addonce is measured with it.
wait_for() {
    [ -p /run/lab/nothing ] || mkfifo /run/lab/nothing
    tries=$(($2 * 100))
    until [ -e "$1" ]; do
        [ $tries -gt 0 ] || fail "$1 did not appear within $2 s"
        tries=$((tries - 1))
        read -r -t 0.01 _ <>/run/lab/nothing
    done
}
busy() {
    read -r _ user nice system _ _ irq softirq steal _ </proc/stat
    BUSY=$((user + nice + system + irq + softirq + steal))
}
available() {
    while read -r key kb _; do
        [ "$key" = MemAvailable: ] && AVAILABLE=$kb && return
    done </proc/meminfo
}
# Five times a second. Shell builtins only, so that watching costs the same next to nothing in every scenario. Reading a
# FIFO nobody writes to is the shell's own way to sleep.
watch_memory() {
    mkfifo /run/lab/never
    exec 8>/run/lab/memory 9<>/run/lab/never
    low=$1
    while :; do
        available
        [ "$AVAILABLE" -lt "$low" ] && low=$AVAILABLE && echo "$low" >/run/lab/low
        now
        echo "$NOW $AVAILABLE" >&8
        read -r -t 0.2 _ <&9
    done
}
# Each sample: hundredths since the storm began, kB available.
memory() {
    while read -r at kb; do
        echo "$((at - BEGAN)) $kb"
    done </run/lab/memory
}
# User and system time of a process, in hundredths: fields 14 and 15 of its stat, 12 and 13 behind its name.
cpu_time() {
    read -r stat <"$1"
    # shellcheck disable=SC2086 # numbers, a word each
    set -- ${stat##*) }
    JIFFIES=$((${12} + ${13}))
}
# What the scenario's daemon cost, if there is one, without the processes that load.
daemon_facts() {
    [ -n "$DAEMON" ] && [ -e "/proc/$DAEMON/stat" ] || return
    cpu_time "/proc/$DAEMON/stat"
    say "fact daemon_jiffies $JIFFIES"
    while read -r key kb _; do
        [ "$key" = VmHWM: ] && say "fact daemon_peak_kb $kb"
        [ "$key" = RssAnon: ] && say "fact daemon_private_kb $kb"
    done <"/proc/$DAEMON/status"
}
# How many devices have a MODALIAS: a CPU has it nowhere but in its uevent.
modaliases() { say "fact modaliases $(find /sys/devices -name uevent | xargs grep -ls ^MODALIAS= | wc -l)"; }
live() {
    for state in /sys/module/*/initstate; do
        [ -e "$state" ] || continue
        read -r word <"$state"
        name=${state%/initstate}
        [ "$word" = live ] && echo "${name##*/}"
    done
}
# What the kernel loaded for its own use before there was an init goes (6.12 checks that there is AES when it is to keep encrypted
# keys), so that a storm begins without any. What stays is told as live before it, and the run fails.
begin_without_modules() {
    until [ "$(live)" = "${there-none}" ]; do
        there=$(live)
        for module in $there; do rmmod "$module" 2>/dev/null; done
    done
}

# Has the kernel trace who inserts what, and each start of a program of addonce's, once it is told to.
arm_trace() {
    echo 0 >$T/tracing_on
    # The last *.ko a thread opened is what its insert call is for. The global clock orders events across CPUs, which the
    # pairing of an open with its insert relies on when a thread migrates between the two.
    echo global >$T/trace_clock
    echo 16384 >$T/buffer_size_kb || fail "no memory for the trace buffer"
    # More threads than the default 128 names are remembered for take part in a storm.
    echo 8192 >$T/saved_cmdlines_size
    # The name is read where the kernel already holds its own copy (struct filename begins with the pointer to it): in user
    # memory it may not be resident yet, and a probe cannot wait for it. Who opens it is in the event, too: the name in front of
    # each line is one that the kernel notes in passing and, where two CPUs do so at a time, leaves out.
    # The function has the second name since 7.0.
    for opens in do_filp_open do_file_open; do
        echo "p:lab/ko_open $opens by=\$comm file=+0(+0(\$arg2)):string" >$T/kprobe_events && break
    done || fail "the kernel took no kprobe event"
    echo 'file ~ "*.ko*"' >$T/events/lab/ko_open/filter || fail "the kernel took no filter on the kprobe event"
    for event in lab/ko_open syscalls/sys_enter_finit_module syscalls/sys_exit_finit_module \
        syscalls/sys_enter_init_module syscalls/sys_exit_init_module; do
        echo 1 >$T/events/$event/enable || fail "the kernel has no trace event $event"
    done
    # PID 1 becomes other programs in a boot, the root file system's init at last.
    echo 'pid == 1 || filename ~ "*addonce*"' >$T/events/sched/sched_process_exec/filter ||
        fail "the kernel took no filter on sched_process_exec"
    echo 1 >$T/events/sched/sched_process_exec/enable || fail "the kernel has no trace event sched_process_exec"
}
say_trace() {
    echo 0 >$T/tracing_on
    # Non-zero counters only: on a machine with 255 CPUs nearly all of them say nothing.
    say "fact lost $(grep -E '^(overrun|commit overrun|dropped events): [1-9]' $T/per_cpu/cpu*/stats | tr '\n' ' ')"
    while read -r event _ missed; do
        [ "$event" != ko_open ] || say "fact missed $missed"
    done <$T/kprobe_profile
    section trace <$T/trace
}
say_versions() {
    say "fact kernel $(uname -r)"
    say "fact udev $(udevadm --version)"
    say "fact kmod $(kmod --version | sed -n 's/^kmod version //p')"
}
