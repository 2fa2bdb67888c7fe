/** A directory is one process's at a time: held by a socket in it, which a process that is killed lets go. */
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { removeStale } from '../control/control-server.js';
import { LockstepError } from '../errors.js';

export class DirectoryLock {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async take(directory: string): Promise<DirectoryLock> {
    const path = join(directory, 'host.lock');
    await removeStale(path);
    const server = createServer((socket) => socket.destroy());
    await new Promise<void>((resolve, reject) => {
      server.once('error', (cause) =>
        reject(
          new LockstepError('ERR_LOCKSTEP_STATE', `${directory} belongs to a host that runs`, {
            cause,
            hint: 'Two hosts on one machine need a --name each.',
          }),
        ),
      );
      server.listen(path, resolve);
    });
    server.unref();
    return new DirectoryLock(server);
  }

  async release(): Promise<void> {
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
