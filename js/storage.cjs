// RegistryStorage: the objects of a registry, for host applications.
'use strict';

const { callAsync, RegistryError } = require('./errors.cjs');
const { nativeBody } = require('./body.cjs');
const { flatHeaders } = require('./headers.cjs');
const { bodyStream } = require('./streams.cjs');
const { createRegistry } = require('./config.cjs');
const { extensions } = require('./callbacks.cjs');

const inside = Symbol('from a registry');

const needKey = (key, method) => {
  if (typeof key === 'string' && key !== '') return key;
  throw new RegistryError(`${method}() needs a key`, { status: 400 });
};

class RegistryStorage {
  /** @type {any} */
  #native;

  /**
   * The one of a registry comes from `registry.getStorage()`. One made here opens the same data on its own, with hooks of its own.
   *
   * @param {any} config an `IStorageConfig`
   * @param {any} [given] `IStorageHooks`
   */
  constructor(config, given) {
    if (config === inside) this.#native = given;
    else {
      const options = { storage: config, storageHooks: given };
      this.#native = createRegistry(options, extensions(options), RegistryStorage).storage();
    }
  }

  async init() {
    await callAsync(() => this.#native.init(), this.init);
  }

  /** The whole object; null if there is none. */
  async getObject(key) {
    needKey(key, 'getObject');
    return (await callAsync(() => this.#native.getObject(key), this.getObject)) ?? null;
  }

  /** The object as a stream; null if there is none. */
  async getObjectStream(key) {
    needKey(key, 'getObjectStream');
    const handle = await callAsync(() => this.#native.getObjectStream(key), this.getObjectStream);
    return handle ? bodyStream(handle) : null;
  }

  /**
   * Writes an object whole: nobody sees half of it.
   *
   * @param {string} key
   * @param {any} data Buffer, text, or a stream
   * @param {Record<string, any>} [metadata] `contentType`, and anything else as text
   */
  async putObject(key, data, metadata = {}) {
    needKey(key, 'putObject');
    const { contentType, 'content-type': lower, 'Content-Type': canonical, ...user } = metadata ?? {};
    const type = contentType ?? lower ?? canonical;
    const [body, upload] = await nativeBody(data, undefined, []);
    await callAsync(() => this.#native.putObject(key, body, upload, type, flatHeaders(user)), this.putObject);
  }

  /** Writes a small object where there is none; false if there is one. Of several writers exactly one gets true. */
  async createObject(key, data) {
    needKey(key, 'createObject');
    const [body] = await nativeBody(data, undefined, []);
    return callAsync(() => this.#native.createObject(key, body), this.createObject);
  }

  /** Deletes an object; one that isn't there is fine. */
  async deleteObject(key) {
    needKey(key, 'deleteObject');
    await callAsync(() => this.#native.deleteObject(key), this.deleteObject);
  }

  /** Every key that begins with `prefix`, in order. */
  async listObjects(prefix = '') {
    return callAsync(() => this.#native.listObjects(prefix), this.listObjects);
  }

  async objectExists(key) {
    return (await this.getMetadata(key)) !== null;
  }

  /** What is known of an object; null if there is none. */
  async getMetadata(key) {
    needKey(key, 'getMetadata');
    const native = await callAsync(() => this.#native.getMetadata(key), this.getMetadata);
    if (!native) return null;
    const { size, etag, lastModified, contentType, metadata } = native;
    const user = {};
    for (let i = 0; i < metadata.length; i += 2) user[metadata[i]] = metadata[i + 1];
    return { key, size, etag, lastModified: new Date(lastModified), contentType: contentType ?? undefined, metadata: user };
  }
}

const registryStorage = (native) => new RegistryStorage(inside, native);

module.exports = { RegistryStorage, registryStorage };
