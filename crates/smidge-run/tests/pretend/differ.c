// Makes system calls by lot, and says what each gave: SEED PROCESSES. The same lot as a real root, and
// as one that is made to believe, must give the same.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned long long state;

static unsigned below(unsigned limit) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (state >> 33) % limit;
}

static const char *paths[] = {
    "a", "b", "c", "d", "d/a", "d/b", "e", "e/a", "l", "m", "/work/a", "/work/d/b", "../work/c", "d/",
    "nope/x", "e/../b", "",
};
static const unsigned ids[] = {0, 0, 0, 1, 33, 33, 50, 1000, -1};
// Every directory can be searched and written to: access is not emulated.
static const unsigned modes[] = {0777, 0777, 04777, 02777, 06777};
static const unsigned kinds[] = {S_IFIFO, S_IFREG, S_IFCHR, S_IFSOCK, 0};
static const int flags[] = {0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH};
static int files[4] = {-1, -1, -1, -1};

static const char *path(void) { return paths[below(17)]; }
static unsigned id(void) { return ids[below(9)]; }

static void tell(const struct stat *status) {
    printf(" [%o %u:%u %lx]", status->st_mode, status->st_uid, status->st_gid, (long)status->st_rdev);
}

static int keep(int file) {
    if (file < 0) return file;
    struct stat status;
    int place = below(4);
    if (fstat(file, &status) == 0) tell(&status);
    if (files[place] >= 0) close(files[place]);
    files[place] = fcntl(file, F_DUPFD, 100 + place);
    printf(" %d %x", fcntl(file, F_GETFD), fcntl(file, F_GETFL));
    close(file);
    return 0;
}

static int look(int kind, int from, const char *name, int file) {
    struct stat status;
    struct statx extended;
    int result = -1;
    switch (kind) {
    case 0: result = stat(name, &status); break;
    case 1: result = lstat(name, &status); break;
    case 2: result = fstat(file, &status); break;
    case 3:
        result = statx(from, name, flags[below(3)], STATX_BASIC_STATS, &extended);
        if (result == 0)
            printf(" [%o %u:%u %u,%u]", extended.stx_mode, extended.stx_uid, extended.stx_gid,
                   extended.stx_rdev_major, extended.stx_rdev_minor);
        return result;
    }
    if (result == 0) tell(&status);
    return result;
}

static int change(int kind, int from, const char *name, int file) {
    unsigned uid = id(), gid = id(), mode = modes[below(5)];
    switch (kind) {
    case 0: return chown(name, uid, gid);
    case 1: return lchown(name, uid, gid);
    case 2: return fchown(file, uid, gid);
    case 3: return fchownat(from, name, uid, gid, flags[below(3)]);
    case 4: return chmod(name, mode);
    case 5: return fchmod(file, mode);
    default: return syscall(SYS_fchmodat, from, name, mode);
    }
}

static int make(int kind, int from, const char *name) {
    int how = O_CREAT | O_RDWR | O_NONBLOCK;
    how |= (below(3) ? 0 : O_EXCL) | (below(4) ? 0 : O_CLOEXEC) | (below(5) ? 0 : O_NOFOLLOW);
    const char *other = path();
    switch (kind) {
    case 0:
    case 1:
    case 2: return keep(openat(from, name, how, below(2) ? 0666 : 0777));
    case 3: return keep(open(name, O_RDONLY | O_NONBLOCK));
    case 4: return keep(open(name, O_PATH | (below(2) ? O_NOFOLLOW : 0)));
    case 5: return mkdirat(from, name, 0777);
    case 6: return symlink(other, name);
    case 7: return symlinkat(other, from, name);
    case 8: return mknod(name, kinds[below(5)] | 0666, makedev(1, 3));
    case 9: return rename(name, other);
    case 10: return below(2) ? unlink(name) : rmdir(name);
    // Others than root may not link to what others own, which is a matter of access.
    case 11: return geteuid() == 0 && setfsuid(-1) == 0 ? link(name, other) : 0;
    default: return keep(open(".", O_TMPFILE | O_RDWR, 0666));
    }
}

static int become(int kind) {
    unsigned first = id(), second = id(), third = id(), groups[8] = {first, second, third};
    int count;
    switch (kind) {
    case 0: return setresuid(first, second, third);
    case 1: return setresgid(first, second, third);
    case 2: return setreuid(first, second);
    case 3: return setregid(first, second);
    case 4: return below(2) ? setuid(first) : setgid(first);
    case 5: return below(2) ? setfsuid(first) : setfsgid(first);
    case 6: return setgroups(below(4), groups);
    case 7: return prctl(PR_SET_KEEPCAPS, below(2), 0, 0, 0);
    case 8:
        getresuid(&first, &second, &third);
        printf(" %u %u %u %u %u", first, second, third, getuid(), geteuid());
        return 0;
    case 9:
        getresgid(&first, &second, &third);
        printf(" %u %u %u %u %u", first, second, third, getgid(), getegid());
        return 0;
    default:
        count = getgroups(8, groups);
        for (int place = 0; place < count; place++) printf(" %u", groups[place]);
        return count;
    }
}

static void call(int number) {
    const char *name = path();
    int file = files[below(4)], from = below(4) ? AT_FDCWD : files[below(4)];
    int area = below(34), result;
    errno = 0;
    printf("%d: %d %s %d %d", number, area, name, file, from);
    if (area < 7) result = change(area, from, name, file);
    else if (area < 11) result = look(area - 7, from, name, file);
    else if (area < 24) result = make(area - 11, from, name);
    else result = become(area - 24 + below(2));
    printf(" = %d %s\n", result, result < 0 ? strerrorname_np(errno) : "");
}

int main(int count, char **arguments) {
    if (count < 3) return 1;
    state = atoi(arguments[1]);
    umask(0);
    mkdir("/work", 0777);
    if (chdir("/work")) return 1;
    for (int process = 0; process < atoi(arguments[2]); process++) {
        state = state * 31 + process;
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            printf("process %d\n", process);
            if (below(3) == 0) setgroups(0, NULL), setresgid(33, 33, 33), setresuid(33, 33, 33);
            for (int number = 0; number < 60; number++) call(number);
            fflush(stdout);
            _exit(0);
        }
        waitpid(child, NULL, 0);
    }
    return 0;
}
