// Bundles the command line into one CommonJS file: loading forty small modules takes longer than all else that a
// start does. The library stays as tsc writes it. What a command loads only when it runs is not run before.
import { readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { build } from 'esbuild';

const outdir = 'dist/bundle';
const commander = dirname(createRequire(import.meta.url).resolve('commander'));
const license = readFileSync(join(commander, 'LICENSE'), 'utf8').trim();
rmSync(outdir, { recursive: true, force: true });
await build({
  entryPoints: ['dist/cli/main.js'],
  outfile: `${outdir}/main.cjs`,
  bundle: true,
  format: 'cjs',
  platform: 'node',
  target: 'node20',
  // Found through the installed package: WebAssembly, and what few commands need.
  external: ['iced-x86', 'cli-progress', 'prom-client', 'etcd3'],
  define: { 'import.meta.url': 'bundleUrl' },
  banner: {
    js: `/* Contains commander:\n\n${license}\n*/\nconst bundleUrl = require('node:url').pathToFileURL(__filename).href;`,
  },
  logLevel: 'warning',
});
