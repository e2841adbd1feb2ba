/* A stand-in for libnvidia-ml.so.1 that drives the real pynvml, on a machine without a GPU.
 *
 * It reads the file that NVML_STUB names on every call, so that cards can break and heal while a test runs.
 * One "key value" a line; N is a card, N.M an instance of it (its slot):
 *
 *   count 2                      cards, by default none
 *   uuid.N, name.N, driver       text; an instance exists if it has a uuid
 *   memory.N total free used     bytes
 *   mode.N 2                     compute mode
 *   mig.N 1                      MIG mode; without it: not supported
 *   utilization.N 37             percent; without it: not supported
 *   processes.N pid bytes ...
 *   rc.init 18                   what a function answers: rc.init, rc.count, and with .N or .N.M: rc.handle,
 *                                rc.uuid, rc.name, rc.memory, rc.mode, rc.mig, rc.processes; "hang" never returns,
 *                                "crash" ends the process
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, SLOTS = 7, CARDS = 16 };

struct utilization { unsigned gpu, memory; };
struct memory { unsigned long long total, free, used; };
struct process { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; };

static char card_paths[CARDS][8], slot_paths[CARDS][SLOTS][8];

static int look_up(const char *what, const char *path, char *value, size_t size) {
    char key[64], line[256];
    snprintf(key, sizeof key, *path ? "%s.%s " : "%s ", what, path);
    FILE *file = fopen(getenv("NVML_STUB"), "r");
    int found = 0;
    while (file && !found && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, key, strlen(key)) == 0) {
            snprintf(value, size, "%s", line + strlen(key));
            found = 1;
        }
    }
    if (file) fclose(file);
    return found;
}

static int rc(const char *what, const char *path) {
    char key[32], value[32];
    snprintf(key, sizeof key, "rc.%s", what);
    if (!look_up(key, path, value, sizeof value)) return 0;
    if (strcmp(value, "hang") == 0) for (;;) pause();
    if (strcmp(value, "crash") == 0) raise(SIGKILL);
    return atoi(value);
}

static int text(const char *what, const char *path, const char *otherwise, char *out, unsigned size) {
    if (!look_up(what, path, out, size)) snprintf(out, size, otherwise, *path ? path[0] - '0' : 0);
    return rc(what, path);
}

int nvmlInitWithFlags(unsigned flags) { return rc("init", ""); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return "an error of the stub"; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) { return text("driver", "", "570.00", out, size); }

int nvmlDeviceGetCount_v2(unsigned *count) {
    char value[16] = "0";
    look_up("count", "", value, sizeof value);
    *count = atoi(value);
    return rc("count", "");
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    snprintf(card_paths[index], sizeof card_paths[index], "%u", index);
    *handle = card_paths[index];
    return rc("handle", *handle);
}

int nvmlDeviceGetUUID(char *path, char *out, unsigned size) {
    return text("uuid", path, "GPU-%08x-0000-0000-0000-000000000000", out, size);
}

int nvmlDeviceGetName(char *path, char *out, unsigned size) { return text("name", path, "NVIDIA Stub", out, size); }

int nvmlDeviceGetMemoryInfo(char *path, struct memory *memory) {
    char value[64] = "1000 900 100";
    look_up("memory", path, value, sizeof value);
    sscanf(value, "%llu %llu %llu", &memory->total, &memory->free, &memory->used);
    return rc("memory", path);
}

int nvmlDeviceGetComputeMode(char *path, unsigned *mode) {
    char value[16] = "0";
    look_up("mode", path, value, sizeof value);
    *mode = atoi(value);
    return rc("mode", path);
}

int nvmlDeviceGetUtilizationRates(char *path, struct utilization *rates) {
    char value[16];
    if (!look_up("utilization", path, value, sizeof value)) return NOT_SUPPORTED;
    rates->gpu = atoi(value);
    rates->memory = 0;
    return 0;
}

int nvmlDeviceGetMigMode(char *path, unsigned *current, unsigned *pending) {
    char value[16];
    if (!look_up("mig", path, value, sizeof value)) return NOT_SUPPORTED;
    *current = *pending = atoi(value);
    return rc("mig", path);
}

int nvmlDeviceGetMaxMigDeviceCount(char *path, unsigned *count) {
    *count = SLOTS;
    return 0;
}

int nvmlDeviceGetMigDeviceHandleByIndex(char *path, unsigned slot, void **handle) {
    char value[128], *own = slot_paths[atoi(path)][slot];
    snprintf(own, sizeof slot_paths[0][0], "%s.%u", path, slot);
    *handle = own;
    return look_up("uuid", own, value, sizeof value) ? rc("handle", own) : NOT_FOUND;
}

int nvmlDeviceGetComputeRunningProcesses_v3(char *path, unsigned *count, struct process *processes) {
    char value[128] = "", *rest = value;
    look_up("processes", path, value, sizeof value);
    unsigned found = 0, room = *count;
    for (char *end; ; rest = end, found++) {
        unsigned pid = strtoul(rest, &end, 10);
        if (end == rest) break;
        unsigned long long used = strtoull(end, &end, 10);
        if (processes && found < room) processes[found] = (struct process){pid, used, 0, 0};
    }
    *count = found;
    int code = rc("processes", path);
    return code ? code : found > room ? INSUFFICIENT_SIZE : 0;
}
