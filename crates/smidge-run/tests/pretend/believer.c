// A program that believes in users: each check that fails is a line on standard output.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define CHECK(truth) \
    do { \
        errno = 0; \
        if (!(truth)) printf("line %d: %s (errno %d)\n", __LINE__, #truth, errno), fflush(stdout); \
    } while (0)

static int owner(const char *path, unsigned uid, unsigned gid) {
    struct stat status;
    if (lstat(path, &status)) return 0;
    if (status.st_uid == uid && status.st_gid == gid) return 1;
    printf("%s: %u:%u\n", path, status.st_uid, status.st_gid);
    return 0;
}

static int ids(unsigned real, unsigned effective, unsigned saved) {
    unsigned r, e, s;
    return getresuid(&r, &e, &s) == 0 && r == real && e == effective && s == saved
        && getuid() == real && geteuid() == effective;
}

static int child(void (*work)(void)) {
    int status;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        work();
        fflush(stdout);
        _exit(0);
    }
    return waitpid(pid, &status, 0) == pid && status == 0;
}

static void inherits(void) {
    CHECK(ids(33, 33, 33));
    CHECK(setuid(0) == -1 && errno == EPERM);
    CHECK(setgroups(0, NULL) == -1 && errno == EPERM);
    int fd = open("inherited", O_CREAT | O_WRONLY, 0666);
    CHECK(fd >= 0 && owner("inherited", 33, 34));
    close(fd);
}

static void drops(void) {
    gid_t list[] = {50, 7};
    CHECK(setgroups(2, list) == 0);
    CHECK(setresgid(34, 34, 34) == 0);
    CHECK(setresuid(33, 33, 33) == 0);
    gid_t back[4];
    CHECK(getgroups(0, NULL) == 2 && getgroups(4, back) == 2 && back[0] == 7 && back[1] == 50);
    CHECK(getgroups(1, back) == -1 && errno == EINVAL);
    CHECK(child(inherits));
    CHECK(chown("inherited", -1, 50) == 0 && owner("inherited", 33, 50));
    CHECK(chown("inherited", -1, 51) == -1 && errno == EPERM);
    CHECK(chown("inherited", 0, -1) == -1 && errno == EPERM);
    CHECK(chown("inherited", 33, 34) == 0);
    CHECK(chown("roots", 33, -1) == -1 && errno == EPERM);
    CHECK(chmod("roots", 0600) == -1 && errno == EPERM);
    CHECK(chmod("inherited", 0640) == 0);
    CHECK(mknod("device", S_IFCHR | 0600, makedev(1, 3)) == -1 && errno == EPERM);
    CHECK(mkfifo("pipe33", 0600) == 0 && owner("pipe33", 33, 34));
}

static void orphan(void) {
    CHECK(setresuid(70, 70, 70) == 0);
    if (fork() == 0) {
        // Its parent is gone when it first asks.
        while (getppid() != 1) usleep(1000);
        CHECK(getuid() == 70);
        int fd = open("orphans", O_CREAT | O_WRONLY | O_EXCL, 0600);
        close(fd);
        fflush(stdout);
        _exit(0);
    }
}

static void keeps(void) {
    // As `setpriv` does it: the user first, then the groups with what was kept.
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct some[2] = {{.effective = 0xc0, .permitted = 0xc0}}, none[2] = {0};
    CHECK(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0 && setresuid(33, 33, 33) == 0);
    CHECK(setresgid(34, 34, 34) == -1 && errno == EPERM);
    CHECK(syscall(SYS_capset, &header, some) == 0);
    CHECK(setresgid(34, 34, 34) == 0 && setgroups(0, NULL) == 0 && getgroups(0, NULL) == 0);
    CHECK(syscall(SYS_capset, &header, none) == 0);
    CHECK(setgid(0) == -1 && errno == EPERM && setuid(0) == -1 && errno == EPERM);
}

static void *becomes_another(void *unused) {
    // Of this thread alone, as the kernel has it.
    (void)unused;
    setfsuid(91);
    mkdir("threads", 0700);
    return NULL;
}

static void switches(void) {
    CHECK(setresuid(10, 20, 0) == 0 && ids(10, 20, 0));
    CHECK(setreuid(20, 10) == 0 && ids(20, 10, 10));
    CHECK(setuid(0) == -1 && errno == EPERM);
    CHECK(seteuid(20) == 0 && ids(20, 20, 10));
    CHECK(setfsuid(-1) == 20);
}

static void creates(void) {
    umask(027);
    CHECK(setresgid(4, 4, 4) == 0 && setresuid(3, 3, 3) == 0);
    int fd = open("plain", O_CREAT | O_RDWR | O_CLOEXEC, 0666);
    struct stat status;
    CHECK(fd >= 0 && fstat(fd, &status) == 0 && status.st_uid == 3 && (status.st_mode & 0777) == 0640);
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC && write(fd, "x", 1) == 1);
    CHECK(open("plain", O_CREAT | O_EXCL | O_RDWR, 0666) == -1 && errno == EEXIST);
    int again = open("plain", O_CREAT | O_RDWR, 0666);
    CHECK(again >= 0 && fcntl(again, F_GETFD) == 0);
    CHECK(symlink("target", "dangling") == 0 && owner("dangling", 3, 4));
    CHECK(open("dangling", O_CREAT | O_NOFOLLOW | O_RDWR, 0666) == -1 && errno == ELOOP);
    CHECK(close(open("dangling", O_CREAT | O_RDWR, 0600)) == 0 && owner("target", 3, 4));
    CHECK(open("no/where", O_CREAT | O_RDWR, 0600) == -1 && errno == ENOENT);
    CHECK(open("plain/where", O_CREAT | O_RDWR, 0600) == -1 && errno == ENOTDIR);
    CHECK(creat("created", 0600) >= 0 && owner("created", 3, 4));
    struct open_how how = {.flags = O_CREAT | O_WRONLY, .mode = 0600};
    CHECK(syscall(SYS_openat2, AT_FDCWD, "how", &how, sizeof how) >= 0 && owner("how", 3, 4));
    int unnamed = open(".", O_TMPFILE | O_RDWR, 0600);
    CHECK(unnamed >= 0 && fstat(unnamed, &status) == 0 && status.st_uid == 3);
    char path[64];
    sprintf(path, "/proc/self/fd/%d", unnamed);
    CHECK(linkat(AT_FDCWD, path, AT_FDCWD, "linked", AT_SYMLINK_FOLLOW) == 0 && owner("linked", 3, 4));
    CHECK(mkdir("sub/", 0777) == 0 && owner("sub", 3, 4) && stat("sub", &status) == 0
          && (status.st_mode & 0777) == 0750);
    CHECK(mkdir("sub", 0777) == -1 && errno == EEXIST);
    int sub = open("sub", O_RDONLY | O_DIRECTORY);
    CHECK(mkdirat(sub, "deep", 0777) == 0 && symlinkat("x", sub, "link") == 0 && owner("sub/link", 3, 4));
    CHECK(fstatat(sub, "deep", &status, 0) == 0 && status.st_uid == 3);
    CHECK(close(open("/dev/null", O_CREAT | O_WRONLY, 0600)) == 0);
}

static void strange(void) {
    struct stat status;
    struct statx extended;
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(page + 4096, 4096);
    // A text that ends where the memory does, and one that does not.
    strcpy(page + 4096 - 6, "roots");
    CHECK(chown(page + 4096 - 6, 12, 13) == 0 && stat(page + 4096 - 6, &status) == 0 && status.st_uid == 12);
    memset(page, 'a', 4096);
    CHECK(chown(page + 1, 12, 13) == -1 && errno == EFAULT);
    CHECK(syscall(SYS_chown, 1, 12, 13) == -1 && errno == EFAULT);
    CHECK(syscall(SYS_stat, "roots", page + 4000) == -1 && errno == EFAULT);
    CHECK(syscall(SYS_stat, "roots", 0) == -1 && errno == EFAULT);
    CHECK(syscall(SYS_getresuid, 1, 2, 3) == -1 && errno == EFAULT);
    CHECK(syscall(SYS_setgroups, 3, 1) == -1 && errno == EFAULT);
    CHECK(syscall(SYS_setgroups, 1 << 20, 1) == -1 && errno == EINVAL);
    char *endless = malloc(100000);
    memset(endless, 'x', 99999);
    endless[99999] = 0;
    CHECK(chown(endless, 1, 1) == -1 && errno == ENAMETOOLONG);
    CHECK(stat(endless, &status) == -1 && errno == ENAMETOOLONG);
    CHECK(mkdir(endless, 0700) == -1 && errno == ENAMETOOLONG);
    CHECK(chown("", 1, 1) == -1 && errno == ENOENT);
    CHECK(stat("", &status) == -1 && errno == ENOENT);
    CHECK(fchown(-1, 1, 1) == -1 && errno == EBADF);
    CHECK(fchown(999, 1, 1) == -1 && errno == EBADF);
    CHECK(fchownat(AT_FDCWD, "roots", 1, 1, 0x8000) == -1 && errno == EINVAL);
    CHECK(fstatat(AT_FDCWD, "roots", &status, 0x8000) == -1 && errno == EINVAL);
    CHECK(chown("missing", 1, 1) == -1 && errno == ENOENT);
    CHECK(setuid(-1) == -1 && errno == EINVAL);
    CHECK(symlink("", "empty") == -1 && errno == ENOENT);
    int fd = open("roots", O_RDONLY);
    CHECK(fchownat(fd, "", 21, 22, AT_EMPTY_PATH) == 0 && owner("roots", 21, 22));
    CHECK(fstatat(fd, "", &status, AT_EMPTY_PATH) == 0 && status.st_uid == 21);
    CHECK(statx(fd, "", AT_EMPTY_PATH, STATX_ALL, &extended) == 0 && extended.stx_gid == 22);
    CHECK(statx(AT_FDCWD, "roots", 0, STATX_UID, &extended) == 0 && extended.stx_uid == 21);
    char path[64];
    sprintf(path, "/proc/self/fd/%d", fd);
    CHECK(chown(path, 23, -1) == 0 && owner("roots", 23, 22));
    CHECK(stat(path, &status) == 0 && status.st_uid == 23);
    CHECK(chown("roots", -1, -1) == 0 && owner("roots", 23, 22));
    // A link by a descriptor that stands for itself.
    CHECK(symlink("roots", "name") == 0);
    int link = open("name", O_PATH | O_NOFOLLOW);
    CHECK(fchownat(link, "", 5, 6, AT_EMPTY_PATH) == 0 && owner("name", 5, 6) && owner("roots", 23, 22));
    CHECK(fstatat(link, "", &status, AT_EMPTY_PATH) == 0 && status.st_uid == 5);
    // What is known of it is not for copies.
    char list[64];
    CHECK(listxattr("roots", list, sizeof list) == 0 && flistxattr(fd, NULL, 0) == 0);
    CHECK(setxattr("roots", "user.own", "x", 1, 0) == 0);
    CHECK(listxattr("roots", NULL, 0) == 9 && listxattr("roots", list, 3) == -1 && errno == ERANGE);
    CHECK(listxattr("roots", list, 9) == 9 && strcmp(list, "user.own") == 0);
    CHECK(syscall(SYS_listxattr, "roots", 1, 9) == -1 && errno == EFAULT);
    CHECK(chown("roots", 0, 0) == 0);
    CHECK(llistxattr("roots", list, sizeof list) == 9);
}

int main(int count, char **arguments) {
    // Who it is to be: really, effectively.
    if (count > 1) {
        unsigned real = atoi(arguments[1]), effective = count > 2 ? atoi(arguments[2]) : real;
        return getuid() == real && geteuid() == effective ? 0 : 1;
    }
    CHECK(mkdir("/work", 0777) == 0 && chdir("/work") == 0);
    CHECK(close(creat("roots", 0644)) == 0 && owner("roots", 0, 0));
    CHECK(ids(0, 0, 0));
    CHECK(child(drops));
    CHECK(ids(0, 0, 0));
    CHECK(child(switches));
    CHECK(child(keeps));
    CHECK(child(creates));
    CHECK(child(strange));
    CHECK(child(orphan));
    struct stat status;
    for (int tries = 0; tries < 2000 && stat("orphans", &status); tries++) usleep(1000);
    CHECK(owner("orphans", 70, 0));
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, becomes_another, NULL) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(owner("threads", 91, 0));
    CHECK(close(creat("still", 0600)) == 0 && owner("still", 0, 0));
    // execve keeps what it is; vfork as well.
    if (vfork() == 0) {
        setuid(33);
        execl("/proc/self/exe", "believer", "33", (char *)NULL);
        _exit(2);
    }
    int code;
    CHECK(wait(&code) > 0 && code == 0);
    CHECK(getuid() == 0);
    printf("done\n");
    return 0;
}
