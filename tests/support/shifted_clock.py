"""A wall clock that jumps, for one process: real in all it can ask, and in when its waits end.

    with ShiftedClock(folder) as clock, Program("registrar", …, prefix=clock.command):
        clock.shift(+3600)

A library before libc answers for CLOCK_REALTIME with so many seconds more or less; CLOCK_MONOTONIC stays what it is,
as it does when somebody sets a machine's clock. A wait until a moment of the wall clock ends when that clock shows it:
at once after a jump past it, an hour late after a jump back. What it cannot shift are the kernel's own timers
(`timerfd_settime` with an absolute wall-clock time), which Python and gRPC do not use.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Self

import pytest

SECONDS = struct.Struct("=q")

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SLICE 50000000LL            /* nanoseconds after which a wait looks at the clock again */
#define WALL 1000000000LL           /* seconds; a deadline beyond is one of the wall clock, not of an uptime */

static volatile int64_t *shift;

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("SHIFTED_CLOCK"), O_RDONLY);
    shift = mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    if (shift == MAP_FAILED) abort();
    close(file);
}

static long ask(long clock, struct timespec *now) { return syscall(SYS_clock_gettime, clock, now); }

static int is_wall(clockid_t clock) { return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE; }

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)ask(clock, now);
    if (!failed && is_wall(clock)) now->tv_sec += *shift;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}

static int64_t left(const struct timespec *until) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (until->tv_sec - now.tv_sec) * 1000000000LL + until->tv_nsec - now.tv_nsec;
}

/* The next look at the clock, as the kernel's own wall clock has it; nothing is left to wait for: now. */
static struct timespec slice(int64_t remaining) {
    struct timespec then;
    ask(CLOCK_REALTIME, &then);
    then.tv_nsec += remaining < 0 ? 0 : remaining < SLICE ? remaining : SLICE;
    then.tv_sec += then.tv_nsec / 1000000000L;
    then.tv_nsec %= 1000000000L;
    return then;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict lock,
                           const struct timespec *restrict until) {
    REAL(pthread_cond_timedwait);
    if (until->tv_sec < WALL) return real(cond, lock, until);
    for (;;) {
        int64_t remaining = left(until);
        struct timespec then = slice(remaining);
        int result = real(cond, lock, &then);
        if (result != ETIMEDOUT || remaining <= SLICE) return result;
    }
}

int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict until) {
    REAL(sem_timedwait);
    for (;;) {
        int64_t remaining = left(until);
        struct timespec then = slice(remaining);
        int result = real(sem, &then);
        if (result == 0 || errno != ETIMEDOUT || remaining <= SLICE) return result;
    }
}

long syscall(long number, ...) {
    static long (*real)(long, ...);
    long a[6];
    va_list list;
    va_start(list, number);
    for (int each = 0; each < 6; each++) a[each] = va_arg(list, long);
    va_end(list);
    if (!real) real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    int waits = number == SYS_futex && (a[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET && a[3];
    if (number == SYS_clock_gettime || !waits || !(a[1] & FUTEX_CLOCK_REALTIME))
        return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    for (;;) {
        int64_t remaining = left((const struct timespec *)a[3]);
        struct timespec then = slice(remaining);
        long result = real(number, a[0], a[1], a[2], &then, a[4], a[5]);
        if (result == 0 || errno != ETIMEDOUT || remaining <= SLICE) return result;
    }
}
"""


class ShiftedClock:
    """`command` makes whatever it runs live by it; `shift` is for all of them, and counts at once."""

    def __init__(self, folder: Path) -> None:
        self._seconds = folder / "shift"
        self._library = folder / "shifted_clock.so"
        self.command = ("env", f"LD_PRELOAD={self._library}", f"SHIFTED_CLOCK={self._seconds}")

    def __enter__(self) -> Self:
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            pytest.fail("no C compiler is on the path: apt-get install gcc libc6-dev", pytrace=False)
        command = [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-x", "c", "-", "-o", str(self._library), "-ldl"]
        made = subprocess.run(command, input=SOURCE, capture_output=True, text=True, timeout=60, check=False)
        assert made.returncode == 0, made.stderr
        self.shift(0)
        return self

    def __exit__(self, *_: object) -> None:
        self._library.unlink()

    def shift(self, seconds: int) -> None:
        """Make the wall clock so much later than the machine's, or earlier. In place: processes have it mapped."""
        with self._seconds.open("r+b" if self._seconds.exists() else "w+b") as file:
            file.write(SECONDS.pack(seconds))
