// What `getRegistry(protocol)` gives: one class per protocol, each a view of its registry.
'use strict';

/** Only this file's `make` has it: the classes are for `instanceof`, not for `new`. */
const key = Symbol('made by a registry');

class BaseRegistry {
  #registry;
  #basePath;
  #protocol;

  constructor(secret, view) {
    if (secret !== key) throw new TypeError(`${new.target.name} is made by a SmartRegistry: use registry.getRegistry(protocol)`);
    this.#registry = view.registry;
    this.#basePath = view.basePath;
    this.#protocol = view.protocol;
  }

  /** Name of the protocol. */
  get protocol() {
    return this.#protocol;
  }

  /** Where it answers. */
  getBasePath() {
    return this.#basePath;
  }

  /** Starts the registry that it belongs to. */
  init() {
    return this.#registry.init();
  }

  /** Answers a request; the path is the full one, base path included. */
  handleRequest(context) {
    return this.#registry.handleRequest(context);
  }
}

class OciRegistry extends BaseRegistry {}
class NpmRegistry extends BaseRegistry {}
class MavenRegistry extends BaseRegistry {}
class CargoRegistry extends BaseRegistry {}
class ComposerRegistry extends BaseRegistry {}
class PypiRegistry extends BaseRegistry {}
class RubyGemsRegistry extends BaseRegistry {}

const protocolClasses = {
  oci: OciRegistry,
  npm: NpmRegistry,
  maven: MavenRegistry,
  cargo: CargoRegistry,
  composer: ComposerRegistry,
  pypi: PypiRegistry,
  rubygems: RubyGemsRegistry,
};

const make = (Class, view) => new Class(key, view);

module.exports = { protocolClasses, make, OciRegistry, NpmRegistry, MavenRegistry, CargoRegistry, ComposerRegistry, PypiRegistry, RubyGemsRegistry };
