import { makeKeys } from '../tls.js';
import { say } from './report.js';

/** `lockstep keys`. */
export default async function keys(
  flags: { quiet?: boolean; force?: boolean; days?: number },
  directory: string,
): Promise<number> {
  makeKeys(directory, { days: flags.days, force: flags.force });
  say(flags, `${directory} holds the keys of a pair: copy it to both hosts, without ca.key.`);
  say(flags, 'Console clients need ca.pem, console.pem and console.key.');
  return 0;
}
