import { Command, CommanderError } from 'commander';
import { packageVersion } from '../package-root.js';
import {
  addEtcdOptions,
  addGuestOptions,
  addHardwareOptions,
  addLogFileOptions,
  addLogOptions,
  addMachineOptions,
  addPairOptions,
  addPriorityOptions,
  addSecurityOptions,
  controlOption,
  gatewayOption,
  macOption,
  memoryOption,
  mirrorOption,
  networkOption,
  ports,
  sandboxOption,
  seconds,
  userOption,
  whole,
} from './options.js';

/** Loaded when its command runs, so that `--help` answers at once. Resolves with the exit status. */
type Action = (options: never, ...operands: never[]) => Promise<number>;
type Load = () => Promise<{ default: Action }>;

/** What Lockstep's own failures exit with. */
const FAILED = 125;

function buildProgram(finish: (status: number) => void): Command {
  const program = new Command('lockstep')
    .description(
      'Record a virtual machine, replay it bit for bit, and let a live shadow take over when it dies.',
    )
    .version(packageVersion())
    .enablePositionalOptions()
    .exitOverride();

  /** Commander hands over operands, options, command; commands here take options first. */
  const runs = (command: Command, load: Load): Command =>
    command.action(async (...given: unknown[]) => {
      const options = given.at(-2) as never;
      const operands = given.slice(0, -2) as never[];
      const { default: action } = await load();
      finish(await action(options, ...operands));
    });
  const command = (name: string, description: string, parent = program) =>
    parent.command(name).description(description).option('--quiet', 'print no messages');

  const json = ['--json', 'print JSON on stdout'] as const;

  runs(
    command('doctor', 'say what this host can do, and what to do about what it cannot').option(...json),
    () => import('./doctor.js'),
  );

  const image = command('image', 'pack and inspect images; say what a program needs')
    .argument('[program...]', 'with --tree: program and arguments')
    .option('--tree', 'list what would be packed with the program, and why')
    .option(...json);
  runs(addPriorityOptions(addGuestOptions(image, { machine: false })), () => import('./image-tree.js'));
  const pack = command('pack', 'pack a program into an image file', image)
    .argument('<program...>', 'program and arguments')
    .requiredOption('-o, --output <file>', 'the image file')
    .option('--force', 'overwrite the image file');
  runs(addGuestOptions(pack, { machine: false }), () => import('./image-pack.js'));
  const inspect = command('inspect', 'say what is in an image, or in the image of a log', image)
    .argument('<file>', 'image or log')
    .option('--tree', 'list the files the guest sees')
    .option(...json);
  runs(addPriorityOptions(inspect), () => import('./image-inspect.js'));

  const run = command('run', 'run a program in a machine, unrecorded').argument('[program...]');
  runs(addGuestOptions(run), () => import('./run.js'));
  const record = command('record', 'run a program in a machine and record it').argument('[program...]');
  runs(addLogOptions(addGuestOptions(record), { required: true }), () => import('./run.js'));

  const replay = command('replay', 'relive a recording and check every digest')
    .argument('<log>')
    .option('--stdout', 'write the console output that the machine had produced')
    .option('--event <n>', 'stop after this event and print the registers', whole)
    .option('--image <file>', 'the image, for a log that has only its hash')
    .option('--json', 'print the result as JSON on stdout')
    .addOption(sandboxOption());
  runs(replay, () => import('./replay.js'));

  const log = program.command('log').description('look into recordings');
  for (const [name, description] of [
    ['info', 'say what a log holds'],
    ['events', 'print every event'],
    ['verify', 'check every checksum; exits 1 when the log was cut off'],
    ['repair', 'cut a damaged log back to its last whole frame, in place'],
  ] as const) {
    const sub = command(name, description, log)
      .argument('<log>')
      .option(...json);
    runs(sub, async () => ({ default: (await import('./log.js'))[name] as Action }));
  }

  const publish = command('publish', 'write an image, or a snapshot, for any static file server')
    .argument('<image>', 'its file')
    .argument('<directory>', 'where it goes; what other versions there have is not written again')
    .option('--name <name>', "of the manifest, which is what clients ask for (default: the image file's)")
    .option(
      '--level <n>',
      'how hard to compress, 1 to 19 (default: 19 for what is needed first, 12 for the rest)',
      whole,
    );
  runs(addPriorityOptions(publish), () => import('./publish.js'));
  const prune = command('prune', 'remove what no version published in a directory needs any more')
    .argument('<directory>', 'that `lockstep publish` was given')
    .option(
      '--older-than <hours>',
      'keep what is younger: clients may still fetch the version before (default: 24)',
      whole,
    );
  runs(prune, () => import('./prune.js'));
  const learn = command('learn', 'run an image and find out which parts of it are needed first')
    .argument('<image>', 'its file, a snapshot, or a recording that starts at boot')
    .requiredOption('-o, --output <file>', 'the profile, for `lockstep publish --profile`')
    .option(
      '--until <what>',
      'up to where: output, accept, exit, event:N, or a pattern of the output (default: output; with --client, its end)',
    )
    .option('--runs <n>', 'how many runs to watch', whole, 1)
    .option('--client <command>', 'of this host: makes the program answer; again until it succeeds')
    .option('--after <ms>', 'how long to watch past that, for what comes soon', whole, 500)
    .option('--timeout <seconds>', 'for a run to get there', seconds, 60)
    .option('--add', 'count the runs that the profile has already, too')
    .option('--force', 'overwrite the profile')
    .option(...memoryOption);
  runs(addHardwareOptions(learn).addOption(sandboxOption()), () => import('./learn.js'));
  const serve = command('serve', 'serve a directory over HTTP, to try what was published')
    .argument('<directory>')
    .option('--host <address>', 'where to listen (default: the loopback)')
    .option('--port <n>', 'at which port (default: 8080; 0: any)', whole);
  runs(serve, () => import('./serve.js'));
  const stream = command('stream', 'start an image before its download ends')
    .argument('<address>', 'of the manifest that `lockstep publish` wrote: http:, https:, file:, or a path')
    .option('-o, --output <file>', "where the image will stand (default: the manifest's name, here)")
    .addOption(mirrorOption())
    .option('--sha256 <identity>', 'start no image but this one')
    .option('--connections <n>', 'at once (default: 4)', whole)
    .option('--download', 'start nothing: only fetch')
    .option('--record <log>', 'record the machine; the log names the image and does not hold it')
    .option('--force', 'overwrite an existing log')
    .option('--fsync', 'have everything on disk before output leaves')
    .option('--digest-every <n>', 'take a digest every so many events', whole)
    .option(...memoryOption)
    .option('--json', 'print progress as JSON lines on stderr');
  runs(addMachineOptions(stream), () => import('./stream.js'));

  const cp = command('cp', 'copy files out of a running machine, or out of a recording')
    .usage(
      '[options] --control <socket> <guest-path> <host-path>\n       lockstep cp [options] <log>:<guest-path> <host-path>',
    )
    .argument('<source>', 'path in the guest, or LOG:PATH')
    .argument('<host-path>', "file or directory; '-' is stdout")
    .option('-r, --recursive', 'copy a directory with all that is below it, to a place where nothing is yet')
    .option('--control <socket>', 'the socket that run, record, primary or shadow were given')
    .option(
      '--event <n>',
      'of a recording: when the guest next spoke after this event (default: the last)',
      whole,
    );
  runs(cp, () => import('./cp.js'));

  const snapshot = command(
    'snapshot',
    'write a running machine to a file that --image takes, and let it go on',
  )
    .argument('<file>', 'the image file that others start from')
    .requiredOption('--control <socket>', 'the socket that run, record, primary or shadow were given')
    .option('--force', 'overwrite the file')
    .option(...json);
  runs(snapshot, () => import('./snapshot.js'));

  const primary = command('primary', 'run a program as the primary of a pair').argument('[program...]');
  addLogOptions(addGuestOptions(primary), { required: false });
  primary
    .option('--alone', 'start without waiting for a shadow, which may join at any time')
    .option('--pair <id>', 'what the arbiter is to call this pair, and no other ever (default: random)');
  runs(addPairOptions(primary), () => import('./primary.js'));
  const shadow = command(
    'shadow',
    'mirror a primary, from its start or while it runs, and carry on when it is lost',
  );
  addLogFileOptions(shadow, { required: false });
  shadow
    .addOption(networkOption('where the network card is joined to once this side is live:'))
    .addOption(controlOption())
    .option('--pair <id>', 'join no other pair than this one (default: whichever is there)')
    .option(
      '--once',
      'end when out of the pair, where the live side went on: do not start over as its shadow',
    )
    .addOption(userOption())
    .addOption(sandboxOption());
  runs(addPairOptions(shadow), () => import('./shadow.js'));

  const takeover = command('takeover', 'have the shadow of a running pair go on in its place').requiredOption(
    '--control <socket>',
    'the socket that the live side was given',
  );
  runs(takeover, () => import('./takeover.js'));
  const migrate = command('migrate', 'move a running machine to the shadow that joins it')
    .requiredOption('--control <socket>', 'the socket that the live side was given')
    .option('--timeout <ms>', 'give up when no shadow stands by after this long', whole, 60_000);
  runs(migrate, () => import('./takeover.js'));

  const console = command('console', 'talk to the program that a pair runs')
    .argument('<address...>', 'the console addresses of both sides')
    .option('--timeout <ms>', 'give up when no side was live for this long', whole, 30_000);
  runs(addSecurityOptions(console), () => import('./console.js'));
  const keys = command('keys', 'make an authority and certificates for links and consoles over TCP')
    .argument('<directory>', 'where they go')
    .option('--days <n>', 'how long they are valid (default: 3650)', whole)
    .option('--force', 'overwrite keys that are there');
  runs(keys, () => import('./keys.js'));

  const status = command(
    'status',
    'say where the sides of a pair stand; exits 1 when it is unprotected, 2 when gone',
  )
    .argument('<control...>', 'the --control sockets of its sides')
    .option('--watch [seconds]', 'again and again', seconds)
    .option(...json);
  runs(status, () => import('./status.js'));

  const leaseOption = ['--lease <seconds>', 'gone after so long without a word (default: 5)', whole] as const;
  const host = command('host', 'offer this machine to `lockstep protect`, and run what it places here')
    .option('--name <name>', "what this host is called (default: the system's name)")
    .option('--address <ip>', 'where other hosts reach it (default: its only address)')
    .option('--ports <first-last>', 'of its own: one for images, one a side (default: 7100-7199)', ports)
    .option('--memory <MiB>', 'for machines (default: four fifths of what is free)', whole)
    .option('--cores <n>', 'to announce (default: all)', whole)
    .addOption(networkOption('where the cards of machines are joined to:'))
    .option('--directory <path>', 'its files (default: /var/lib/lockstep/NAME; not root: in ~/.local/state)')
    .option(...leaseOption);
  runs(addSecurityOptions(addEtcdOptions(host)), () => import('./host.js'));
  const protect = command(
    'protect',
    'run a program on two announced hosts, and after each failure on the next',
  )
    .argument('[program...]', 'what to run; without it, and without --image, a machine that runs is kept')
    .requiredOption('--name <name>', 'what the machine is called')
    .option('--image <file>', 'start this image instead of a program')
    .option('--ip <address/prefix>', 'give it a network card of this address, or dhcp (default: none)')
    .addOption(gatewayOption())
    .addOption(macOption())
    .option('--cpu <model>', 'CPU the guest sees (default: the highest that all hosts have)')
    .option(...leaseOption)
    .option('--json', 'print where the machine stands as JSON lines on stdout');
  addSecurityOptions(addEtcdOptions(addGuestOptions(protect, { machine: false })));
  runs(protect, () => import('./protect.js'));
  const unprotect = command('unprotect', 'end a machine that `lockstep protect` placed').argument('<name>');
  runs(addEtcdOptions(unprotect), async () => ({
    default: (await import('./protect.js')).unprotect as unknown as Action,
  }));
  const hosts = command('hosts', 'list hosts and machines; exits 1 when a machine is not protected')
    .option('--watch [seconds]', 'again and again', seconds)
    .option(...json);
  runs(addEtcdOptions(hosts), () => import('./hosts.js'));

  const demo = command('demo', 'unplug the host of a mail server under its users, before your eyes')
    .option('--users <n>', 'users that send mail at the same time', whole, 50)
    .option('--mails <n>', 'mails that each of them sends', whole, 80)
    .option(
      '--console',
      'kill a program on a console instead: what is shown where this user is not root',
      false,
    )
    .option('--lines <n>', 'with --console: lines of input', whole, 300)
    .option('--rate <n>', 'with --console: lines a second', whole, 30)
    .option('--directory <path>', 'where recordings and sockets go (default: a new one under /tmp)');
  runs(demo, () => import('./demo/demo.js'));

  for (const one of [run, record, image, pack, primary, protect]) one.passThroughOptions();
  return program;
}

/** Runs the command line and ends the process with its status. */
export async function main(argv: string[]): Promise<never> {
  // Whoever reads our output may stop: then so do we.
  process.stdout.on('error', (error: NodeJS.ErrnoException) =>
    process.exit(error.code === 'EPIPE' ? 0 : FAILED),
  );
  let status = 0;
  const finish = (result: number) => {
    status = result;
  };
  try {
    await buildProgram(finish).parseAsync(argv);
  } catch (error) {
    if (error instanceof CommanderError) {
      status = error.exitCode === 0 ? 0 : FAILED;
    } else {
      const { reportError } = await import('./report.js');
      status = reportError(error);
    }
  }
  // A pipe takes 64 KiB at a time; what it has not taken yet would be lost.
  if (process.stdout.writableLength > 0) await new Promise((done) => process.stdout.write('', done));
  process.exit(status);
}
