// Starts a machine in a worker thread and says so; or runs some to their end and says what they put out.
// Plain JavaScript, from dist/: tsx does not reach into workers.
import { text } from 'node:stream/consumers';
import { parentPort, workerData } from 'node:worker_threads';
import { Image, Machine } from 'lockstep';

const { bytes, inputs } = workerData;
const image = await Image.fromBytes(bytes);

async function answer(input) {
  const machine = await Machine.create(image);
  await machine.start();
  machine.stdin.end(input);
  const output = await text(machine.stdout);
  await machine.close();
  return output;
}

if (inputs) {
  parentPort.postMessage(await Promise.all(inputs.map(answer)));
} else {
  const machine = await Machine.create(image);
  await machine.start();
  machine.stdout.once('data', () => parentPort.postMessage('ready'));
}
