// Bundles the command line into dist/bundle: loading forty small modules takes longer than all else that a
// start does. The library stays as tsc writes it. What a command loads only when it runs stays apart.
import { rmSync } from 'node:fs';
import { build } from 'esbuild';

const outdir = 'dist/bundle';
rmSync(outdir, { recursive: true, force: true });
await build({
  entryPoints: ['dist/cli/main.js'],
  outdir,
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  // Found through the installed package: WebAssembly, and a progress bar that few commands show.
  external: ['iced-x86', 'cli-progress'],
  // Commander is CommonJS and asks for Node's own modules.
  banner: {
    js: "import { createRequire as bundleRequire } from 'node:module'; const require = bundleRequire(import.meta.url);",
  },
  logLevel: 'warning',
});
