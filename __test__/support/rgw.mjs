// Ceph's S3 server on one machine: a monitor, one object store daemon that keeps everything in memory, and the gateway. All are children of this
// process with their files in a temporary folder. It stands for what runs in production: strict signatures, exact races, quirks of its own.
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { client } from '../../scripts/clients.mjs';
import { freePorts } from './ports.mjs';
import { run, startServer } from './process.mjs';
import { sandbox } from './sandbox.mjs';

/** Starting it takes a quarter of a minute; a machine with more to do needs longer. */
const PATIENCE = 120;

/** The daemons take their ports by number, so another program can be quicker: then all is begun anew with other numbers. */
const TRIES = 3;

/** @returns {Promise<{ descriptor: object, log: () => string, stop: () => Promise<void> }>} */
export async function startRgw() {
  await client('rgw');
  for (let tries = 1; ; tries++) {
    const cluster = new Cluster(await sandbox('rgw'));
    try {
      await cluster.configure();
      await cluster.startMonitor();
      await cluster.startStore();
      return await cluster.startGateway();
    } catch (cause) {
      const error = new Error(`Ceph did not start: ${cause.message}\nits daemons printed:\n${cluster.log()}`, { cause });
      await cluster.stop();
      if (tries === TRIES) throw error;
      console.error(`${error.message}\nbeginning anew`);
    }
  }
}

class Cluster {
  #box;
  #daemons = [];

  constructor(box) {
    this.#box = box;
    this.conf = join(box.dir, 'ceph.conf');
  }

  async configure() {
    const { dir } = this.#box;
    const [v2, v1, http] = await freePorts(3);
    Object.assign(this, { fsid: randomUUID(), monitor: `[v2:127.0.0.1:${v2},v1:127.0.0.1:${v1}]`, http });
    // `mon_data_avail_crit`: a monitor ends itself where less than a twentieth of the disk is free, however many gigabytes that is.
    const text = `
[global]
fsid = ${this.fsid}
mon_host = ${this.monitor}
public_network = 127.0.0.0/8
run_dir = ${dir}
admin_socket = ${dir}/$name.asok
log_file =
log_to_stderr = true
err_to_stderr = true
crash_dir = ${dir}
keyring = ${dir}/$name.keyring
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
[mon]
mon_data = ${dir}/mon
mon_data_avail_crit = 0
mon_data_avail_warn = 0
[osd]
osd_data = ${dir}/osd
osd_objectstore = memstore
memstore_device_bytes = 8589934592
[client.rgw]
rgw_frontends = beast endpoint=127.0.0.1:${http}
rgw_data = ${dir}/rgw
rgw_enable_usage_log = false
`;
    await writeFile(this.conf, text);
    for (const name of ['mon', 'osd', 'rgw']) await mkdir(join(dir, name));
  }

  async startMonitor() {
    const { dir } = this.#box;
    const all = ['--cap', 'mon', 'allow *', '--cap', 'osd', 'allow *', '--cap', 'mgr', 'allow *'];
    await this.#run('ceph-authtool', '--create-keyring', `${dir}/mon.a.keyring`, '--gen-key', '-n', 'mon.', '--cap', 'mon', 'allow *');
    await this.#run('ceph-authtool', '--create-keyring', `${dir}/client.admin.keyring`, '--gen-key', '-n', 'client.admin', ...all);
    await this.#run('ceph-authtool', `${dir}/mon.a.keyring`, '--import-keyring', `${dir}/client.admin.keyring`);
    await this.#run('monmaptool', '--create', '--addv', 'a', this.monitor, '--fsid', this.fsid, `${dir}/monmap`);
    await this.#run('ceph-mon', '--mkfs', '-i', 'a', '--monmap', `${dir}/monmap`, '--keyring', `${dir}/mon.a.keyring`);
    await this.#daemon('ceph-mon', '-f', '-i', 'a');
    await this.#until('the monitor answers', () => this.#try('ceph', '--connect-timeout', '5', 'mon', 'stat'));
  }

  async startStore() {
    const { dir } = this.#box;
    const uuid = randomUUID();
    await this.#run('ceph', 'osd', 'new', uuid, '0');
    await this.#run('ceph', 'auth', 'get-or-create', 'osd.0', 'mon', 'allow profile osd', 'osd', 'allow *', '-o', `${dir}/osd.0.keyring`);
    await this.#run('ceph-osd', '-i', '0', '--mkfs', '--osd-uuid', uuid);
    await this.#daemon('ceph-osd', '-f', '-i', '0');
    await this.#until('the object store is up', async () => /1 up/.test(await this.#try('ceph', 'osd', 'stat')));
  }

  async startGateway() {
    const { dir } = this.#box;
    await this.#run('ceph', 'auth', 'get-or-create', 'client.rgw', 'mon', 'allow rwx', 'osd', 'allow rwx', '-o', `${dir}/client.rgw.keyring`);
    await this.#daemon('radosgw', '-f', '-n', 'client.rgw');
    await this.#until('the gateway answers', () => fetch(`http://127.0.0.1:${this.http}/`).then(({ ok }) => ok, () => false));
    const [accessKey, accessSecret] = [randomBytes(10).toString('hex'), randomBytes(20).toString('hex')];
    const keys = ['--access-key', accessKey, '--secret-key', accessSecret];
    await this.#run('radosgw-admin', 'user', 'create', '--uid', 'test', '--display-name', 'test', '--max-buckets', '0', ...keys);
    const descriptor = { endpoint: '127.0.0.1', port: this.http, useSsl: false, accessKey, accessSecret, region: 'us-east-1' };
    return { descriptor, log: () => this.log(), stop: () => this.stop() };
  }

  log() {
    return this.#daemons.map((daemon) => daemon.log().slice(-1500)).join('\n');
  }

  async stop() {
    for (const daemon of this.#daemons.reverse()) await daemon.stop();
    await this.#box.remove();
  }

  #start(argv) {
    return run([...argv, '--conf', this.conf], { cwd: this.#box.dir, env: this.#box.env });
  }

  async #run(...argv) {
    return (await this.#start(argv)).ok();
  }

  /** The output, or nothing where the command failed. */
  async #try(...argv) {
    const { code, output } = await this.#start(argv);
    return code === 0 ? output : '';
  }

  async #daemon(...argv) {
    this.#daemons.push(await startServer([...argv, '--conf', this.conf], { cwd: this.#box.dir, env: this.#box.env }));
  }

  async #until(what, check) {
    const end = Date.now() + PATIENCE * 1000;
    while (!(await check())) {
      assert.ok(Date.now() < end, `not after ${PATIENCE} s: ${what}`);
      assert.ok(this.#daemons.every((daemon) => daemon.runs()), `a daemon ended before ${what}`);
      await sleep(200);
    }
  }
}
