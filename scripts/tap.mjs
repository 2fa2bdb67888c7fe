// Runs a program that prints TAP, passes its output on as it comes, and counts.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

const RESULT = /^(not )?ok\b(.*)$/;
const UNCOUNTED = /#\s*(skip|todo)\b/i;

/** A run that takes longer than `timeout` ms is killed, and has failed. @returns {Promise<{passed: number, failed: number, status: number}>} */
export async function runTap(command, args, options = {}) {
  const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve(code ?? 1));
  });
  let passed = 0;
  let failed = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    console.log(line);
    const result = RESULT.exec(line);
    if (!result || UNCOUNTED.test(result[2])) continue;
    if (result[1]) failed++;
    else passed++;
  }
  return { passed, failed, status: await exited };
}

/** Prints the line that closes all runs, `N passed, N failed`. @returns {number} the exit status they make together */
export function total(runs) {
  const passed = runs.reduce((sum, run) => sum + run.passed, 0);
  let failed = runs.reduce((sum, run) => sum + run.failed, 0);
  // A run that failed without a failed test (it crashed, or found no tests) is a failure all the same.
  failed += runs.filter((run) => run.status !== 0 && run.failed === 0).length;
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}
