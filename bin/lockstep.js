#!/usr/bin/env node
// Committed, executable, and tiny: what a build writes to dist/ has no executable bit.
import('../dist/bundle/main.js').then(
  ({ main }) => main(process.argv),
  (error) => {
    const unbuilt =
      error.code === 'ERR_MODULE_NOT_FOUND' && String(error.message).includes('dist/bundle/main.js');
    console.error(unbuilt ? 'lockstep: not built yet; run `npm run build`.' : error);
    process.exitCode = 125;
  },
);
