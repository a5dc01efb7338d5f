// Where it was measured.
import os from 'node:os';
import { spawnSync } from 'node:child_process';
import { client } from '../../scripts/clients.mjs';

export async function machine() {
  const cpus = os.cpus();
  return {
    cores: cpus.length,
    cpu: cpus[0].model.trim(),
    memory: Math.round(os.totalmem() / 2 ** 30),
    kernel: `${os.type()} ${os.release()} ${os.arch()}`,
    programs: { node: process.version, nginx: await version('nginx', '-v'), wrk: await version('wrk', '-v'), curl: await version('curl', '--version') },
  };
}

/** The first number in what a program says about itself; some say it on stderr, some with a failure. */
async function version(name, flag) {
  const { argv } = await client(name);
  const { stdout, stderr } = spawnSync(argv[0], [flag], { encoding: 'utf8' });
  return `${stderr}${stdout}`.match(/\d+(\.\d+)+/)?.[0] ?? '?';
}
