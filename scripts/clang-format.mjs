// Checks (or with --write: applies) .clang-format on every native source. The guest kernel is C in another
// house style and has a .clang-format of its own beside it.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

const sources = readdirSync('native', { recursive: true })
  .filter((name) => /\.(cc|c|h)$/.test(name))
  .map((name) => join('native', name))
  .sort();
const mode = process.argv.includes('--write') ? ['-i'] : ['--dry-run', '--Werror'];
const { status, error } = spawnSync('clang-format', [...mode, ...sources], { stdio: 'inherit' });
if (error) console.error('clang-format is missing: apt-get install -y clang-format');
process.exit(status ?? 1);
