// Webhooks: what is sent, how it is signed, and that nothing is lost when the receiver is away or a process is killed.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { text } from 'node:stream/consumers';
import { publishDocument, tarball } from '../support/wire.mjs';
import { login, open, pushBlob, sha256 } from '../support/facade.mjs';
import { sandbox } from '../support/sandbox.mjs';

const KEY = Buffer.from('a key of the tests');

/** A receiver that answers with what `answer` says and keeps what it was sent. */
async function receiver(t, answer = () => 204) {
  const received = [];
  const server = createServer(async (request, response) => {
    const body = await text(request);
    const status = answer(received.length);
    received.push({ headers: request.headers, body, status });
    response.writeHead(status).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return { received, url: `http://127.0.0.1:${server.address().port}/hook?token=secret` };
}

async function until(what, condition) {
  const end = Date.now() + 30_000;
  while (!(await condition())) {
    assert.ok(Date.now() < end, `${what} within 30 s`);
    await sleep(50);
  }
}

describe('webhooks', () => {
  let box;
  before(async () => {
    box = await sandbox('webhooks');
  });
  after(() => box.remove());

  const storage = (name) => ({ type: 'local', path: join(box.dir, name) });
  /** Until it follows the feeds: what happened before it was configured is none of its business. */
  const follows = (name) => until('it follows', async () => (await readdir(join(box.dir, name, '_sr', 'webhooks')).catch(() => [])).length > 0);
  const publish = async (registry, headers, name, version = '1.0.0') => {
    const body = publishDocument(name, version, await tarball(name, version));
    const answer = await registry.handleRequest({ method: 'PUT', path: `/npm/${name.replace('/', '%2f')}`, headers: { ...headers, 'Content-Type': 'application/json' }, query: {}, body });
    assert.equal(answer.status, 201);
  };

  it('are signed, in order, and tried again', async (t) => {
    const { received, url } = await receiver(t, (count) => (count === 0 ? 503 : 204));
    const registry = await open(t, { storage: storage('one'), webhooks: [{ url, secret: `whsec_${KEY.toString('base64')}` }] });
    const { npm, oci } = await login(registry);
    await follows('one');
    await publish(registry, npm, 'widget');
    await publish(registry, npm, 'widget', '1.1.0');
    await pushBlob(registry, oci, sha256('layer'), Buffer.from('layer'));
    await until('all arrive', () => received.filter(({ status }) => status === 204).length >= 3);
    const events = received.filter(({ status }) => status === 204).map(({ body }) => JSON.parse(body));
    const npmEvents = events.filter(({ data }) => data.protocol === 'npm');
    assert.deepEqual(npmEvents.map(({ type, data }) => [type, data.name, data.version, data.actor]), [
      ['npm.publish', 'widget', '1.0.0', 'alice'],
      ['npm.publish', 'widget', '1.1.0', 'alice'],
    ]);
    assert.deepEqual(events.filter(({ data }) => data.protocol === 'oci').map(({ type, data }) => [type, data.name]), [['oci.create', 'team/app']]);
    for (const { headers, body } of received) {
      const signed = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`;
      assert.equal(headers['webhook-signature'], `v1,${createHmac('sha256', KEY).update(signed).digest('base64')}`);
      assert.ok(Math.abs(Number(headers['webhook-timestamp']) - Date.now() / 1000) < 60);
    }
    // The one that was refused came again under the same name.
    assert.equal(received.filter(({ headers }) => headers['webhook-id'] === received[0].headers['webhook-id']).length, 2);
  });

  it('go on where the last process was', async (t) => {
    const { received, url } = await receiver(t);
    const config = { storage: storage('two'), webhooks: [{ url, events: ['publish'], names: ['@acme/*'] }] };
    const first = await open(t, config);
    const { npm } = await login(first);
    await follows('two');
    await first.destroy();
    const away = await open(t, { storage: config.storage });
    const { npm: again } = await login(away);
    await publish(away, again, '@acme/one');
    await publish(away, again, 'other');
    await publish(away, again, '@acme/two');
    await away.destroy();
    assert.ok(npm && received.length === 0);
    // Whoever takes over first waits until the process before must be dead.
    await open(t, config);
    const end = Date.now() + 60_000;
    while (received.length < 2 && Date.now() < end) await sleep(100);
    assert.deepEqual(received.map(({ body }) => JSON.parse(body).data.name), ['@acme/one', '@acme/two']);
    assert.equal(received[0].headers['webhook-signature'], undefined);
  });
});
