/** Scripts: files that name their interpreter in the first line. */

export interface ScriptInterpreter {
  /** What stands after `#!`: the path that is executed. */
  interpreter: string;
  /** For `#!/usr/bin/env NAME`: the name that env looks up on PATH. */
  byEnv: string | null;
}

const LINE_MAX = 255;

/** The interpreter that a script names; null when the bytes are no script. */
export function interpreterOf(bytes: Uint8Array): ScriptInterpreter | null {
  if (bytes[0] !== 0x23 || bytes[1] !== 0x21) return null;
  const line = Buffer.from(bytes.subarray(2, LINE_MAX)).toString('utf8').split('\n')[0]?.trim() ?? '';
  const [interpreter, ...words] = line.split(/[ \t]+/);
  if (!interpreter) return null;
  const isEnv = /(^|\/)env$/.test(interpreter);
  // env takes options (-S splits the rest into words) and assignments before the name.
  const name = words.map((word) => word.replace(/^-S/, '')).find((word) => word && !/^-|=/.test(word));
  return { interpreter, byEnv: isEnv && name !== undefined ? name : null };
}
