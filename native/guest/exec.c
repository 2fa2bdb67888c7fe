/* Loading a program: its segments become areas, its strings and the auxiliary vector its stack. */
#include "file.h"
#include <linux/auxvec.h>
#include <linux/elf.h>

#define STACK_BYTES (8ull << 20)
#define PIE_BASE 0x555555554000ull
#define STRINGS_MAX (2u << 20)
#define SEGMENTS_MAX 32
#define SCRIPTS_MAX 4 /* interpreters that are scripts themselves */

char exe_path[PATH_MAX];
char program_name[16];
struct program_strings program_strings;

struct program {
    struct inode *inode;
    Elf64_Ehdr header;
    Elf64_Phdr segment[SEGMENTS_MAX];
    uint64_t low, high; /* of the PT_LOADs */
    uint64_t base, end;
    char interpreter[256];
};

static long read_headers(struct program *program, struct inode *inode) {
    const Elf64_Ehdr *header = &program->header;
    memset(program, 0, sizeof *program);
    program->inode = inode;
    if (!S_ISREG(inode->mode)) return -EACCES;
    if (inode_read(inode, 0, &program->header, sizeof *header) != sizeof *header) return -ENOEXEC;
    if (memcmp(header->e_ident, ELFMAG, SELFMAG) || header->e_ident[EI_CLASS] != ELFCLASS64 ||
        header->e_machine != EM_X86_64 || (header->e_type != ET_EXEC && header->e_type != ET_DYN) ||
        header->e_phentsize != sizeof(Elf64_Phdr) || !header->e_phnum || header->e_phnum > SEGMENTS_MAX)
        return -ENOEXEC;
    size_t bytes = header->e_phnum * sizeof(Elf64_Phdr);
    if (inode_read(inode, header->e_phoff, program->segment, bytes) != bytes) return -ENOEXEC;
    program->low = NEVER;
    for (int i = 0; i < header->e_phnum; i++) {
        const Elf64_Phdr *s = &program->segment[i];
        if (s->p_type == PT_LOAD) {
            if (s->p_memsz < s->p_filesz || s->p_vaddr + s->p_memsz > LS_USER_TOP ||
                s->p_vaddr + s->p_memsz < s->p_vaddr || (s->p_vaddr - s->p_offset) % PAGE)
                return -ENOEXEC;
            program->low = min_u64(program->low, page_down(s->p_vaddr));
            program->high = max_u64(program->high, page_up(s->p_vaddr + s->p_memsz));
        } else if (s->p_type == PT_INTERP) {
            if (s->p_filesz >= sizeof program->interpreter) return -ENOEXEC;
            inode_read(inode, s->p_offset, program->interpreter, s->p_filesz);
        }
    }
    return program->low < program->high && header->e_entry < LS_USER_TOP ? 0 : -ENOEXEC;
}

static unsigned prot_of(const Elf64_Phdr *s) {
    return (s->p_flags & PF_R ? PROT_READ : 0) | (s->p_flags & PF_W ? PROT_WRITE : 0) |
           (s->p_flags & PF_X ? PROT_EXEC : 0);
}

static long map_segment(struct program *program, const Elf64_Phdr *s) {
    uint64_t start = program->base + s->p_vaddr, file_end = start + s->p_filesz;
    uint64_t end = page_up(start + s->p_memsz), middle = s->p_filesz ? page_up(file_end) : page_down(start);
    struct vma file = {page_down(start),       middle,     program->inode,
                       page_down(s->p_offset), prot_of(s), MAP_PRIVATE};
    struct vma zero = {middle, end, NULL, 0, prot_of(s), MAP_PRIVATE | MAP_ANONYMOUS};
    long error = file.start < file.end ? space_map(file) : 0;
    if (!error && middle < end) error = space_map(zero);
    if (error) return error;
    if (s->p_memsz > s->p_filesz && file_end % PAGE && s->p_filesz) { /* .bss starts within a file page */
        int code;
        if (!(s->p_flags & PF_W)) return 0;
        if (space_fault(file_end, 2, true, &code)) return -ENOMEM;
        memset((void *)file_end, 0, page_up(file_end) - file_end);
    }
    return 0;
}

static long map_program(struct program *program, uint64_t base) {
    program->base = program->header.e_type == ET_DYN ? base - program->low : 0;
    unsigned at = vma_index(program->base + program->low);
    if (at < space.count && space.vmas[at].start < program->base + program->high) return -ENOMEM;
    for (int i = 0; i < program->header.e_phnum; i++) {
        long error = program->segment[i].p_type == PT_LOAD ? map_segment(program, &program->segment[i]) : 0;
        if (error) return error;
    }
    program->end = program->base + program->high;
    return 0;
}

/* The vDSO and the table behind it, as a file that no directory names. */
static long map_vdso(void) {
    static struct inode vdso = {.mode = S_IFREG | 0444, .links = 1};
    uint64_t bytes = (uint64_t)(vdso_end - vdso_start), table = 2 * LS_VDSO_CALLS * sizeof(uint64_t);
    vdso.archive = vdso_start;
    vdso.size = bytes + page_up(table);
    struct vma code = {LS_VDSO, LS_VDSO + bytes, &vdso, 0, PROT_READ | PROT_EXEC, MAP_PRIVATE};
    struct vma addresses = {LS_VDSO_TABLE, LS_VDSO_TABLE + page_up(table), &vdso, bytes, PROT_READ,
                            MAP_PRIVATE};
    return space_map(code) ?: space_map(addresses) ?: space_populate(code.start, code.end)
        ?: space_populate(addresses.start, addresses.end);
}

/* Where the program headers lie in memory (AT_PHDR). */
static uint64_t headers_address(const struct program *program) {
    for (int i = 0; i < program->header.e_phnum; i++) {
        const Elf64_Phdr *s = &program->segment[i];
        if (s->p_type == PT_LOAD && s->p_offset <= program->header.e_phoff &&
            program->header.e_phoff < s->p_offset + s->p_filesz)
            return program->base + s->p_vaddr + program->header.e_phoff - s->p_offset;
    }
    return 0;
}

static uint64_t push(uint64_t *sp, const void *bytes, size_t length) {
    *sp -= length;
    memcpy((void *)*sp, bytes, length);
    return *sp;
}

static long build_stack(struct frame *frame, const struct program *program, const struct program *loader,
                        const struct strings *strings) {
    uint64_t top = LS_USER_TOP - PAGE, sp = top;
    uint8_t random[16];
    struct vma stack = {top - STACK_BYTES, top, NULL, 0, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS};
    long error = space_map(stack);
    if (error) return error;
    if (strings->length + (strings->argc + strings->envc) * 8 > STACK_BYTES / 4) return -E2BIG;
    space_populate(top - 16 * PAGE, top);
    random_bytes(random, sizeof random);
    sp -= 8; /* Linux ends the stack with a null word */
    memset((void *)sp, 0, 8);
    uint64_t exe = push(&sp, exe_path, strlen(exe_path) + 1);
    uint64_t text = push(&sp, strings->bytes, strings->length);
    uint64_t platform = push(&sp, "x86_64", 7);
    sp &= ~15ull;
    uint64_t seed = push(&sp, random, sizeof random);
    const uint64_t auxiliary[][2] = {
        {AT_HWCAP, boot->hwcap},
        {AT_PAGESZ, PAGE},
        {AT_CLKTCK, 100},
        {AT_PHDR, headers_address(program)},
        {AT_PHENT, sizeof(Elf64_Phdr)},
        {AT_PHNUM, program->header.e_phnum},
        {AT_BASE, loader ? loader->base : 0},
        {AT_FLAGS, 0},
        {AT_ENTRY, program->base + program->header.e_entry},
        {AT_UID, 0},
        {AT_EUID, 0},
        {AT_GID, 0},
        {AT_EGID, 0},
        {AT_SECURE, 0},
        {AT_RANDOM, seed},
        {AT_HWCAP2, boot->hwcap2},
        {AT_EXECFN, exe},
        {AT_PLATFORM, platform},
        {AT_MINSIGSTKSZ, 4096},
        {AT_SYSINFO_EHDR, LS_VDSO},
        {AT_NULL, 0},
    };
    size_t words = 1 + strings->argc + 1 + strings->envc + 1;
    sp = (sp - words * 8 - sizeof auxiliary) & ~15ull;
    uint64_t *to = (uint64_t *)sp;
    *to++ = strings->argc;
    program_strings = (struct program_strings){text, text + strings->length, text + strings->length};
    for (size_t i = 0; i < strings->argc + strings->envc; i++) {
        if (i == strings->argc) *to++ = 0, program_strings.environment = text;
        *to++ = text;
        text += strlen((const char *)text) + 1;
    }
    if (!strings->envc) *to++ = 0;
    *to++ = 0;
    memcpy(to, auxiliary, sizeof auxiliary);
    const struct program *first = loader ? loader : program;
    *frame = (struct frame){.rip = first->base + first->header.e_entry,
                            .rsp = sp,
                            .cs = LS_SEL_USER_CODE,
                            .ss = LS_SEL_USER_DATA,
                            .rflags = RFLAGS_PROGRAM};
    return 0;
}

/* "#!interpreter argument" becomes argv[0..]; strings is replaced by a longer copy. */
static long read_script(struct inode *inode, const char *path, char *interpreter, struct strings *strings) {
    char line[256];
    size_t n = inode_read(inode, 0, line, sizeof line - 1), at = 2, end = 2, arguments;
    if (n < 4 || line[0] != '#' || line[1] != '!') return -ENOEXEC;
    while (end < n && line[end] != '\n') end++;
    while (end > 2 && (line[end - 1] == ' ' || line[end - 1] == '\t' || line[end - 1] == '\r')) end--;
    line[end] = 0;
    while (line[at] == ' ' || line[at] == '\t') at++;
    size_t name = at;
    while (line[at] && line[at] != ' ' && line[at] != '\t') at++;
    memcpy(interpreter, line + name, at - name);
    interpreter[at - name] = 0;
    while (line[at] == ' ' || line[at] == '\t') at++;
    if (!interpreter[0]) return -ENOEXEC;
    arguments = strlen(interpreter) + 1 + (line[at] ? strlen(line + at) + 1 : 0) + strlen(path) + 1;
    size_t skipped = strings->argc ? strlen(strings->bytes) + 1 : 0;
    size_t length = arguments + strings->length - skipped;
    if (length > STRINGS_MAX) return -E2BIG;
    char *bytes = object_alloc(length), *to = bytes;
    if (!bytes) return -ENOMEM;
    const char *piece[3] = {interpreter, line[at] ? line + at : NULL, path};
    for (int i = 0; i < 3; i++) {
        if (!piece[i]) continue;
        memcpy(to, piece[i], strlen(piece[i]) + 1);
        to += strlen(piece[i]) + 1;
    }
    memcpy(to, strings->bytes + skipped, strings->length - skipped);
    strings->argc += (line[at] ? 3 : 2) - (strings->argc ? 1 : 0);
    strings->bytes = bytes;
    strings->length = length;
    return 0;
}

static void remember(const char *path, struct inode *directory, const struct place *place) {
    long n = directory_path(directory, exe_path, sizeof exe_path - NAME_MAX - 2);
    if (n < 0) n = 0;
    if (n != 1) exe_path[n++] = '/';
    memcpy(exe_path + n, place->name, place->length);
    exe_path[(size_t)n + place->length] = 0;
    const char *base = path;
    for (const char *p = path; *p; p++)
        if (*p == '/') base = p + 1;
    format(program_name, sizeof program_name, "%s", base);
}

/* Past the point of no return errors end the program; before it they are the caller's. */
long exec_load(struct frame *frame, const char *path, struct strings *strings) {
    static struct place place;
    static struct program program, loader;
    char interpreter[SCRIPTS_MAX][256];
    const char *asked = path;
    long error = path_find(&place, cwd, path, 0);
    if (!error && !place.inode) error = -ENOENT;
    if (!error) error = read_headers(&program, place.inode);
    for (int depth = 0; error == -ENOEXEC && depth < SCRIPTS_MAX; depth++) {
        struct strings before = *strings;
        if (read_script(place.inode, path, interpreter[depth], strings)) break;
        if (depth) object_free(before.bytes, before.length);
        error = path_find(&place, cwd, path = interpreter[depth], 0);
        if (!error && !place.inode) error = -ENOENT;
        if (!error) error = read_headers(&program, place.inode);
    }
    if (error) return error;
    remember(asked, place.directory, &place);
    struct inode *inode = place.inode, *loader_inode = NULL;
    if (program.interpreter[0]) {
        error = path_find(&place, root, program.interpreter, 0);
        if (!error) error = place.inode ? read_headers(&loader, loader_inode = place.inode) : -ENOENT;
        if (error) return error;
    }
    inode_use(inode);
    space_clear();
    signal_exec();
    error = map_program(&program, PIE_BASE);
    if (!error && loader_inode) error = map_program(&loader, space_gap(loader.high - loader.low));
    space.brk_start = space.brk = program.end;
    if (!error) error = map_vdso();
    if (!error) error = build_stack(frame, &program, loader_inode ? &loader : NULL, strings);
    inode_release(inode);
    __asm__ volatile("wrfsbase %0; wrgsbase %0" ::"r"(0ul));
    return error;
}

/* ---- execve -------------------------------------------------------------------------------------- */
static long copy_strings(uint64_t vector, struct strings *to, size_t *count) {
    for (*count = 0;; ++*count, vector += 8) {
        uint64_t address;
        if (copy_in(&address, vector, sizeof address)) return -EFAULT;
        if (!address) return 0;
        long n = copy_in_string(to->bytes + to->length, address, STRINGS_MAX - to->length);
        if (n < 0) return n == -ENAMETOOLONG ? -E2BIG : n;
        to->length += (size_t)n + 1;
    }
}

long sys_execve(uint64_t path, uint64_t argv, uint64_t envp) {
    static char *buffer, name[PATH_MAX];
    if (!buffer && !(buffer = pages_alloc(STRINGS_MAX / PAGE))) return -ENOMEM;
    struct strings strings = {buffer, 0, 0, 0};
    long error = copy_in_string(name, path, sizeof name);
    if (error >= 0) error = argv ? copy_strings(argv, &strings, &strings.argc) : 0;
    if (!error && envp) error = copy_strings(envp, &strings, &strings.envc);
    if (error < 0) return error;
    uint64_t before = space.brk_start;
    error = exec_load(current_frame, name, &strings);
    if (strings.bytes != buffer) object_free(strings.bytes, strings.length);
    if (error) {
        if (space.brk_start != before || !space.count) exit_with_signal(SIGKILL);
        return error;
    }
    files_exec();
    current_frame->vector = 0; /* all registers are new */
    return 0;
}
