/* Memory to share that a child has made which uses its parent's memory (vfork): it is the parent's, too. Ends when the file "stop"
   is there. */
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES 16

static volatile unsigned char *volatile made;

int main(int argc, char **argv)
{
	char path[4096];
	int status;

	snprintf(path, sizeof path, "%s/stop", argc > 1 ? argv[1] : ".");
	if (vfork() == 0) {
		made = mmap(NULL, PAGES << 12, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		_exit(made == MAP_FAILED);
	}
	if (wait(&status) < 0 || status)
		return 9;
	for (unsigned turn = 0; access(path, F_OK); turn++) {
		for (int i = 0; i < PAGES; i++)
			made[i << 12] = (unsigned char)(turn + i);
		usleep(2000);
		for (int i = 0; i < PAGES; i++)
			if (made[i << 12] != (unsigned char)(turn + i))
				return 6;
	}
	return 7;
}
