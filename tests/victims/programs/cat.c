/* Copies its input to its output. Linked statically, it is a program that no preloaded library reaches. */
#include <unistd.h>

int main(void) {
    char bytes[4096];
    ssize_t n;
    while ((n = read(0, bytes, sizeof bytes)) > 0)
        for (ssize_t done = 0; done < n;) {
            ssize_t w = write(1, bytes + done, (size_t)(n - done));
            if (w < 0)
                return 1;
            done += w;
        }
    return n < 0;
}
