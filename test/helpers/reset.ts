import type { Socket } from 'node:net';

/**
 * Resets a connection, or hangs up one whose end is being sent: reset then, a socket stays open for ever in Node 20,
 * and its process spins at its exit.
 */
export function reset(socket: Socket): void {
  if (socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}
