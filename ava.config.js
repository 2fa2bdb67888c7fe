export default {
  files: ['test/**/*.test.ts'],
  extensions: { ts: 'module' },
  nodeArguments: ['--import=tsx'],
  // A crash in the addon must not take the runner down, and machines of different files share two cores.
  workerThreads: false,
  concurrency: 2,
  // What hangs runs into it; an emulated host is slow.
  timeout: process.env.LOCKSTEP_EMULATED === '1' ? '30m' : '5m',
};
