#!/usr/bin/env node
// Committed, executable, and tiny: dist/ is tsc's output, whose files have no executable bit.
import('../dist/cli/main.js').then(
  ({ main }) => main(process.argv),
  (error) => {
    const unbuilt =
      error.code === 'ERR_MODULE_NOT_FOUND' && String(error.message).includes('dist/cli/main.js');
    console.error(unbuilt ? 'lockstep: not built yet; run `npm run build`.' : error);
    process.exitCode = 125;
  },
);
