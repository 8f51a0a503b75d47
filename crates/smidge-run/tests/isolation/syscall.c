/* Makes a system call: `syscall NUMBER [ARGUMENT…]`. Prints `ok` or the error's number. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int count, char **words) {
    unsigned long a[7] = {0};
    for (int i = 0; i < 7 && i + 1 < count; i++)
        a[i] = strtoul(words[i + 1], NULL, 0);
    if (syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]) < 0)
        printf("%d\n", errno);
    else
        puts("ok");
    return 0;
}
