// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Modules: a real daemon on a machine whose kernel may have none
//!
//! Two shell scripts that lead to a command, "$@", each with a directory $PLACE that has an empty directory `proc`.

/// By `unshare --mount`: a /proc of a kernel that has modules, whatever this one has; it holds for the program alone, which finds the
/// real one in $PLACE/proc. Of the processes it shows those that are in $PLACE/fake, whoever put them there.
pub const WITH_MODULES: &str = "mkdir -p $PLACE/fake/sys/kernel/random && touch $PLACE/fake/modules && \
                                cp /proc/sys/kernel/random/boot_id $PLACE/fake/sys/kernel/random/ && \
                                ln -s $PLACE/proc/self $PLACE/fake/self && \
                                mount --rbind /proc $PLACE/proc && mount --bind $PLACE/fake /proc && \
                                ulimit -S -n 300 && exec \"$@\"";

/// A client that this /proc shows: the daemon looks at its capabilities.
pub const SHOWN: &str =
    "until [ -L $PLACE/fake/self ]; do sleep 0.01; done; ln -s $PLACE/proc/$$ $PLACE/fake/$$; exec \"$@\"";
