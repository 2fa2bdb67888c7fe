import { serve as listen } from '../stream/serve.js';
import { say } from './report.js';

const PORT = 8080;

/** `lockstep serve`: until Ctrl-C or SIGTERM. */
export default async function serve(
  flags: { host?: string; port?: number; quiet?: boolean },
  directory: string,
): Promise<number> {
  const server = await listen(directory, { host: flags.host, port: flags.port ?? PORT });
  say(flags, `serving ${directory} at ${server.url}`);
  await new Promise<void>((stop) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop());
  });
  await server.close();
  return 0;
}
