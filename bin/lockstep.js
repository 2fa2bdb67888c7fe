#!/usr/bin/env node
// Committed, executable, and tiny: what a build writes to dist/ has no executable bit. CommonJS, as package.json
// beside it says: so Node does not start its loader of ES modules, which takes 7 ms and more.
let main;
try {
  ({ main } = require('../dist/bundle/main.cjs'));
} catch (error) {
  const unbuilt = error.code === 'MODULE_NOT_FOUND' && String(error.message).includes('dist/bundle/main.cjs');
  console.error(unbuilt ? 'lockstep: not built yet; run `npm run build`.' : error);
  process.exitCode = 125;
}
main?.(process.argv);
