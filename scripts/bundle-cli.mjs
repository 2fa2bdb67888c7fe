// Bundles the command line into one CommonJS file: loading forty small modules takes longer than all else that a
// start does. The library stays as tsc writes it. What a command loads only when it runs is not run before.
import { rmSync } from 'node:fs';
import { build } from 'esbuild';

const outdir = 'dist/bundle';
rmSync(outdir, { recursive: true, force: true });
await build({
  entryPoints: ['dist/cli/main.js'],
  outfile: `${outdir}/main.cjs`,
  bundle: true,
  format: 'cjs',
  platform: 'node',
  target: 'node20',
  // Found through the installed package: WebAssembly, and a progress bar that few commands show.
  external: ['iced-x86', 'cli-progress'],
  define: { 'import.meta.url': 'bundleUrl' },
  banner: { js: "const bundleUrl = require('node:url').pathToFileURL(__filename).href;" },
  logLevel: 'warning',
});
