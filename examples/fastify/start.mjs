// Listens where the environment says, and ends in good order.
import { registry } from './registry.mjs';

const { PORT = '5000', HOST = '127.0.0.1' } = process.env;

/** @param {import('fastify').FastifyInstance} app */
export async function start(app) {
  app.addHook('onClose', () => registry.destroy());
  console.log(`listening on ${await app.listen({ port: Number(PORT), host: HOST })}`);
  // What runs is finished; then nothing holds the process any more.
  process.once('SIGTERM', () => app.close());
}
