/* A stand-in for libnvidia-ml.so.1: the functions that the probe calls, answering from a picture of a machine.

   $LANEWISE_PICTURE names a text file of lines `key = value`; the first line whose key matches decides (`*` stands for
   anything between slashes). A value is text or a number, `error N` (NVML's code), `hang` or `crash`; without a line the answer is
   "not supported", as NVML has it for what a device lacks. -DOLD leaves out what drivers before 450 did not have,
   -DANCIENT what those before 390 did not. Layouts and codes are those of nvml.h. */

#include <fnmatch.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int Code;
typedef void *Device; /* 100 * (GPU + 1) + MIG instance + 1 */
enum { SUCCESS = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };

static Code fact(char *value, size_t size, const char *format, ...) {
    char key[128], line[1024];
    va_list rest;
    va_start(rest, format);
    vsnprintf(key, sizeof key, format, rest);
    va_end(rest);
    FILE *picture = fopen(getenv("LANEWISE_PICTURE"), "r");
    if (!picture) abort();
    Code code = NOT_SUPPORTED;
    while (code == NOT_SUPPORTED && fgets(line, sizeof line, picture)) {
        char *equals = strstr(line, " = ");
        if (line[0] == '#' || !equals) continue;
        *equals = 0;
        if (fnmatch(line, key, FNM_PATHNAME) != 0) continue;
        snprintf(value, size, "%s", equals + 3);
        value[strcspn(value, "\n")] = 0;
        code = SUCCESS;
        break;
    }
    fclose(picture);
    if (code == SUCCESS && strcmp(value, "hang") == 0) for (;;) pause();
    if (code == SUCCESS && strcmp(value, "crash") == 0) abort();
    if (code == SUCCESS && sscanf(value, "error %d", &code) == 1) return code;
    return code;
}

static const char *place(Device device) {
    static char text[32];
    int number = (int)(intptr_t)device, mig = number % 100 - 1;
    if (mig < 0) snprintf(text, sizeof text, "gpu/%d", number / 100 - 1);
    else snprintf(text, sizeof text, "gpu/%d/mig/%d", number / 100 - 1, mig);
    return text;
}

static int index_of(Device device) { return (int)(intptr_t)device / 100 - 1; }

static Code text(Device device, const char *name, char *out, unsigned size) {
    return fact(out, size, "%s/%s", place(device), name);
}

static Code number(Device device, const char *name, unsigned long long *out) {
    char value[256];
    Code code = fact(value, sizeof value, "%s/%s", place(device), name);
    if (code == SUCCESS) *out = strtoull(value, NULL, 10);
    return code;
}

static Code small(Device device, const char *name, unsigned *out) {
    unsigned long long value = 0;
    Code code = number(device, name, &value);
    if (code == SUCCESS) *out = (unsigned)value;
    return code;
}

static Code of_pair(const char *what, Device one, Device other, int *out) {
    char value[64];
    Code code = fact(value, sizeof value, "%s/%d/%d", what, index_of(one), index_of(other));
    if (code == SUCCESS) *out = atoi(value);
    return code;
}

/* ---- driver ---- */

#ifndef ANCIENT
Code nvmlInitWithFlags(unsigned flags) {
    char value[64];
    (void)flags;
    Code code = fact(value, sizeof value, "init");
    return code == NOT_SUPPORTED ? SUCCESS : code;
}
#endif

const char *nvmlErrorString(Code code) {
    (void)code;
    return "Unknown Error";
}

Code nvmlSystemGetDriverVersion(char *out, unsigned size) { return fact(out, size, "driver"); }

Code nvmlSystemGetCudaDriverVersion_v2(int *out) {
    char value[64];
    Code code = fact(value, sizeof value, "cuda");
    if (code == SUCCESS) *out = atoi(value);
    return code;
}

Code nvmlDeviceGetCount_v2(unsigned *out) {
    char value[64];
    Code code = fact(value, sizeof value, "count");
    if (code == SUCCESS) *out = (unsigned)atoi(value);
    return code;
}

Code nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *out) {
    char value[64];
    Code code = fact(value, sizeof value, "gpu/%u/handle", index);
    *out = (Device)(intptr_t)(100 * (index + 1));
    return code == NOT_SUPPORTED ? SUCCESS : code;
}

/* ---- one device ---- */

Code nvmlDeviceGetName(Device device, char *out, unsigned size) { return text(device, "name", out, size); }
Code nvmlDeviceGetUUID(Device device, char *out, unsigned size) { return text(device, "uuid", out, size); }

struct Memory { unsigned long long total, free, used; };

Code nvmlDeviceGetMemoryInfo(Device device, struct Memory *out) {
    Code code = number(device, "memory.total", &out->total);
    if (code != SUCCESS) return code;
    out->used = 0;
    code = number(device, "memory.used", &out->used);
    out->free = out->total - out->used;
    return code == NOT_SUPPORTED ? SUCCESS : code;
}

Code nvmlDeviceGetCudaComputeCapability(Device device, int *major, int *minor) {
    char value[64];
    Code code = text(device, "capability", value, sizeof value);
    if (code == SUCCESS) sscanf(value, "%d.%d", major, minor);
    return code;
}

Code nvmlDeviceGetMaxClockInfo(Device device, unsigned kind, unsigned *out) {
    return small(device, kind == 1 ? "clock.sm" : "clock.memory", out);
}

Code nvmlDeviceGetPowerManagementLimit(Device device, unsigned *out) { return small(device, "power.limit", out); }
Code nvmlDeviceGetPowerManagementDefaultLimit(Device device, unsigned *out) {
    return small(device, "power.default", out);
}

Code nvmlDeviceGetEccMode(Device device, unsigned *current, unsigned *pending) {
    *pending = 0;
    return small(device, "ecc", current);
}

Code nvmlDeviceGetTotalEccErrors(Device device, unsigned kind, unsigned counter, unsigned long long *out) {
    if (kind != 1 || counter != 0) return NOT_SUPPORTED; /* uncorrected, volatile */
    return number(device, "ecc.errors", out);
}

Code nvmlDeviceGetRetiredPagesPendingStatus(Device device, unsigned *out) {
    return small(device, "retirement", out);
}

#ifndef OLD
Code nvmlDeviceGetRemappedRows(Device device, unsigned *corrected, unsigned *uncorrected, unsigned *pending,
                               unsigned *failed) {
    char value[64];
    Code code = text(device, "rows", value, sizeof value);
    if (code == SUCCESS) sscanf(value, "%u %u %u %u", corrected, uncorrected, pending, failed);
    return code;
}
#endif

/* ---- MIG ---- */

#ifndef OLD
struct Attributes { unsigned sms, copy, decoders, encoders, jpeg, ofa, slices, compute; unsigned long long mib; };

Code nvmlDeviceGetMigMode(Device device, unsigned *current, unsigned *pending) {
    *pending = 0;
    return small(device, "mig", current);
}

Code nvmlDeviceGetMaxMigDeviceCount(Device device, unsigned *out) {
    (void)device;
    *out = 7;
    return SUCCESS;
}

Code nvmlDeviceGetMigDeviceHandleByIndex(Device device, unsigned index, Device *out) {
    char value[256];
    Device found = (Device)((intptr_t)device + index + 1);
    Code code = text(found, "name", value, sizeof value);
    *out = found;
    return code == NOT_SUPPORTED ? NOT_FOUND : code;
}

Code nvmlDeviceGetAttributes_v2(Device device, struct Attributes *out) {
    memset(out, 0, sizeof *out);
    return small(device, "compute", &out->compute);
}
#endif

/* ---- processes: `pid:bytes pid:bytes`, `?` for bytes that the driver does not say ---- */

struct Process { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; };

static Code processes(Device device, const char *kind, unsigned *count, struct Process *out) {
    char value[512];
    Code code = text(device, kind, value, sizeof value);
    if (code == NOT_SUPPORTED) return *count = 0, SUCCESS;
    if (code != SUCCESS) return code;
    unsigned found = 0, room = out ? *count : 0;
    for (char *word = strtok(value, " "); word; word = strtok(NULL, " "), found++) {
        char *colon = strchr(word, ':');
        if (found >= room) continue;
        out[found].pid = (unsigned)atoi(word);
        out[found].used = colon[1] == '?' ? ~0ull : strtoull(colon + 1, NULL, 10);
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}

#ifdef OLD
#define PROCESSES(kind) nvmlDeviceGet##kind##RunningProcesses_v2
#else
#define PROCESSES(kind) nvmlDeviceGet##kind##RunningProcesses_v3
#endif
Code PROCESSES(Compute)(Device device, unsigned *count, struct Process *out) {
    return processes(device, "compute.processes", count, out);
}
Code PROCESSES(Graphics)(Device device, unsigned *count, struct Process *out) {
    return processes(device, "graphics.processes", count, out);
}

/* ---- links: `gpu/I/lane/N = switch`, `= J` (a device) or `= off` ---- */

struct Pci { char legacy[16]; unsigned domain, bus, device, id, subsystem; char address[32]; };

static Code address(int index, struct Pci *out) {
    memset(out, 0, sizeof *out);
    snprintf(out->address, sizeof out->address, "00000000:%02X:00.0", 16 * (index + 1));
    return SUCCESS;
}

Code nvmlDeviceGetPciInfo_v3(Device device, struct Pci *out) { return address(index_of(device), out); }

static Code lane(Device device, unsigned number_of_lane, char *value, size_t size) {
    return fact(value, size, "%s/lane/%u", place(device), number_of_lane);
}

Code nvmlDeviceGetNvLinkState(Device device, unsigned which, unsigned *active) {
    char value[64];
    Code code = lane(device, which, value, sizeof value);
    *active = code == SUCCESS && strcmp(value, "off") != 0;
    return code;
}

Code nvmlDeviceGetNvLinkRemoteDeviceType(Device device, unsigned which, unsigned *kind) {
    char value[64];
    Code code = lane(device, which, value, sizeof value);
    *kind = strcmp(value, "switch") == 0 ? 2 : 0;
    return code;
}

Code nvmlDeviceGetNvLinkRemotePciInfo_v2(Device device, unsigned which, struct Pci *out) {
    char value[64];
    Code code = lane(device, which, value, sizeof value);
    return code == SUCCESS ? address(atoi(value), out) : code;
}

Code nvmlDeviceGetTopologyCommonAncestor(Device one, Device other, int *out) {
    return of_pair("topology", one, other, out);
}

Code nvmlDeviceGetP2PStatus(Device one, Device other, int capability, int *out) {
    return of_pair(capability == 0 ? "read" : "write", one, other, out);
}
