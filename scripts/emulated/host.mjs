// `npm run emulated -- COMMAND ...`: runs a command on an emulated host that has a /dev/kvm, for machines that
// have none. QEMU emulates a PC with AMD's SVM in software, Debian's kernel boots there and offers KVM, and the
// root file system is this machine's: read only, under a layer in memory that is forgotten at the end. Ten to
// twenty times slower than the real thing: good for tests, worthless for times. No network but loopback.
import { spawn, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir, totalmem } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { installDebianPackages } from '../setup.mjs';
import { unpackDebian, unpackedRoot } from '../unpack-debian.mjs';

const here = dirname(fileURLToPath(import.meta.url));

// What Debian's kernel loads as modules and a host needs here: its devices, its root, KVM, and the networks that
// tests make.
const MODULES = ['virtio_pci', 'virtio_console', '9pnet_virtio', '9p', 'overlay', 'kvm_amd'];
const NETWORK_MODULES = ['tun', 'veth', 'bridge'];

function output(command, args, options = {}) {
  const result = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 28, ...options });
  if (result.error) throw result.error;
  if (result.status !== 0)
    throw new Error(`\`${command} ${args.join(' ')}\` failed:\n${result.stderr ?? ''}`.trimEnd());
  return result.stdout;
}

/** The package that Debian's newest kernel is in; the one that is there already, when there is no list. */
function kernelPackage() {
  const list = spawnSync('apt-cache', ['depends', 'linux-image-amd64'], { encoding: 'utf8' });
  const found = /Depends: (linux-image-\S+)/.exec(list.stdout ?? '')?.[1];
  if (found) return found;
  const kept = existsSync(unpackedRoot) ? readdirSync(unpackedRoot) : [];
  const kernel = kept.find((name) => name.startsWith('linux-image-'));
  if (kernel) return kernel;
  throw new Error('apt-cache knows no linux-image-amd64. Run `apt-get update`, then try again.');
}

/** Files of the modules, each behind those that it depends on. */
function moduleFiles(directory, names) {
  const root = join(directory, 'lib/modules', readdirSync(join(directory, 'lib/modules'))[0]);
  const plain = (name) => basename(name, '.ko').replaceAll('-', '_');
  const lines = (name) => readFileSync(join(root, name), 'utf8').trim().split('\n');
  const builtin = new Set(lines('modules.builtin').map(plain));
  const files = new Map(lines('modules.order').map((path) => [plain(path), join(root, path)]));
  const chosen = new Set();
  const add = (name) => {
    if (builtin.has(name)) return;
    const file = files.get(name);
    if (!file) throw new Error(`this kernel has no module ${name}`);
    const text = readFileSync(file).toString('latin1');
    const depends = /\0depends=([^\0]*)\0/.exec(text)?.[1] ?? '';
    for (const other of depends.split(',').filter(Boolean)) add(plain(other));
    chosen.add(file);
  };
  for (const name of names) add(plain(name));
  return [...chosen];
}

const quoted = (word) => `'${word.replaceAll("'", "'\\''")}'`;

/** What the emulated host runs: the same directory, the same environment, the same command. */
function commandScript(command) {
  const kept = Object.entries(process.env).filter(
    ([name]) => /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && name !== '_' && name !== 'PWD',
  );
  const lines = kept.map(([name, value]) => `export ${name}=${quoted(value)}`);
  return `${lines.join('\n')}\ncd ${quoted(process.cwd())} && exec ${command.map(quoted).join(' ')}\n`;
}

function initramfs(work, kernelDirectory, command) {
  const tree = join(work, 'initramfs');
  for (const name of ['bin', 'modules', 'proc', 'sys', 'dev', 'host', 'layer', 'root'])
    mkdirSync(join(tree, name), { recursive: true });
  copyFileSync('/bin/busybox', join(tree, 'bin/busybox'));
  copyFileSync(join(here, 'init.sh'), join(tree, 'init'));
  spawnSync('chmod', ['755', join(tree, 'init')]);
  writeFileSync(join(tree, 'command.sh'), commandScript(command));
  moduleFiles(kernelDirectory, [...MODULES, ...NETWORK_MODULES]).forEach((file, index) => {
    copyFileSync(file, join(tree, 'modules', `${String(index).padStart(3, '0')}-${basename(file)}`));
  });
  const names = output('find', ['.'], { cwd: tree });
  const archive = join(work, 'initramfs.cpio');
  const cpio = ['--quiet', '-o', '-H', 'newc', '-R', '0:0', '-F', archive];
  output('cpio', cpio, { cwd: tree, input: names });
  return archive;
}

function qemuArguments(work, kernelDirectory, archive) {
  const boot = join(kernelDirectory, 'boot');
  const image = join(
    boot,
    readdirSync(boot).find((name) => name.startsWith('vmlinuz-')),
  );
  const memoryMiB = Math.min(8192, Math.floor(totalmem() / 2 ** 21));
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-machine', 'q35'],
    // PCID, which QEMU does not have, and LA57, which nobody needs here, apart, it is all that QEMU can do.
    ...['-accel', 'tcg,thread=multi,tb-size=1024', '-cpu', 'max,la57=off'],
    ...['-smp', '1', '-m', `${memoryMiB}M`],
    ...['-kernel', image, '-initrd', archive, '-append', 'console=ttyS0 quiet panic=-1 mitigations=off'],
    ...['-serial', `file:${join(work, 'console')}`, '-device', 'virtio-serial-pci'],
    // Ports, not consoles: bytes pass as they are.
    ...['-chardev', 'stdio,id=output,signal=on', '-device', 'virtserialport,chardev=output,name=output'],
    ...['-chardev', `file,id=status,path=${join(work, 'status')}`],
    ...['-device', 'virtserialport,chardev=status,name=status'],
    ...['-virtfs', 'local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap'],
  ];
}

/** Runs the command there. @returns {Promise<number>} its exit status; 125 when the host itself failed. */
async function run(command) {
  installDebianPackages(['emulated']);
  const kernelDirectory = unpackDebian(kernelPackage());
  const work = mkdtempSync(join(tmpdir(), 'lockstep-emulated-'));
  try {
    const archive = initramfs(work, kernelDirectory, command);
    console.error('Starting an emulated host with a /dev/kvm of its own (slow; its times mean nothing) ...');
    const qemu = spawn('qemu-system-x86_64', qemuArguments(work, kernelDirectory, archive), {
      // A pipe that stays open: at the end of its input QEMU would hang up the output too.
      stdio: ['pipe', 'inherit', 'inherit'],
    });
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => qemu.kill('SIGTERM'));
    const ended = await new Promise((resolve, reject) => {
      qemu.on('error', reject);
      qemu.on('close', (code, signal) => resolve(signal ?? code));
    });
    const status = /^(\d+)$/m.exec(readFileSync(join(work, 'status'), 'utf8'))?.[1];
    if (status !== undefined) return Number(status);
    if (ended !== 0) console.error(`The emulated host was ended (${ended}).`);
    else
      console.error(
        `The emulated host stopped early. It said:\n${readFileSync(join(work, 'console'), 'utf8')}`,
      );
    return 125;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

const words = process.argv.slice(2);
if (words.length === 0 || words[0] === '--help') {
  console.error('usage: npm run emulated -- COMMAND [ARGUMENT ...]');
  console.error('Runs COMMAND on an emulated host with /dev/kvm; what it writes to files is forgotten.');
  process.exit(words.length === 0 ? 125 : 0);
}
process.exit(
  await run(words).catch((error) => {
    console.error(`The emulated host cannot start: ${error.message}`);
    return 125;
  }),
);
