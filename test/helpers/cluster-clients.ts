/**
 * Clients of redis on a host of their own, which keep their connections: they write until standard input ends. Prints how
 * many writes were acknowledged, again and again, and a ClientsReport in the end. Argument: how many clients.
 */
import { once } from 'node:events';
import { ADDRESS, waitForRedis } from './plug.js';
import { RedisClients } from './redis-clients.js';

await waitForRedis();
// What hosts do is looked at here, not how much a machine can take.
const clients = await RedisClients.connect(ADDRESS, Number(process.argv[2]), () => 2);
clients.start();
const telling = setInterval(() => console.log(clients.acknowledged), 50);
process.stdin.resume();
await once(process.stdin, 'end');
clearInterval(telling);
console.log(JSON.stringify(await clients.finish()));
