/* Says which kind of machine it runs on. */
#include <stdio.h>
#include <sys/utsname.h>

int main(void) {
    struct utsname machine;
    if (uname(&machine) != 0)
        return 1;
    printf("Hello from C on %s!\n", machine.machine);
    return 0;
}
