// Stands in for the test framework of a checkout that has not installed it: `tap` as its tests call it, `expect` from the library that the
// framework has it from. Prints the Test Anything Protocol.
import { setTimeout as sleep } from 'node:timers/promises';

export { expect, expectAsync } from '@push.rocks/smartexpect';

/** Thrown by `tools.skip()`. */
class Skipped extends Error {}

class Tap {
  #tests = [];
  #before = [];
  #after = [];
  #preparations = [];
  #groups = [];
  #shared = new Map();

  skip = { test: (name) => this.#add(name, undefined, { skip: true }), testParallel: (name) => this.#add(name, undefined, { skip: true }) };
  only = { test: (name, work) => this.#add(name, work, { only: true }), testParallel: (name, work) => this.#add(name, work, { only: true }) };
  todo = Object.assign((name) => this.#add(name, undefined, { todo: true }), { test: (name) => this.#add(name, undefined, { todo: true }) });

  test(name, work) {
    return this.#add(name, work);
  }

  /** Others need not wait for it. Here they do: what it may run beside, it may run after. */
  testParallel(name, work) {
    return this.#add(name, work);
  }

  timeout = (ms) => this.#builder({ ms });
  retry = (times) => this.#builder({ times });
  tags = () => this.#builder({});
  priority = () => this.#builder({});

  describe(name, work) {
    this.#groups.push({ name, before: [], after: [] });
    try {
      work();
    } finally {
      this.#groups.pop();
    }
  }

  beforeEach(work) {
    (this.#groups.at(-1)?.before ?? this.#before).push(work);
  }

  afterEach(work) {
    (this.#groups.at(-1)?.after ?? this.#after).push(work);
  }

  preTask(name, work) {
    this.#preparations.push({ name, work });
  }

  settings() {
    return this;
  }

  /** Runs every test, one after another. */
  async start() {
    const chosen = this.#tests.some(({ only }) => only) ? this.#tests.filter(({ only }) => only) : this.#tests;
    console.log(`TAP version 14\n1..${chosen.length}`);
    for (const { work } of this.#preparations) await work();
    let failed = 0;
    for (const [at, test] of chosen.entries()) {
      const { directive = '', error } = await this.#run(test);
      if (error) failed += 1;
      // The protocol's own signs in a name would be read as such.
      console.log(`${error ? 'not ok' : 'ok'} ${at + 1} - ${test.name.replace(/[\\#\n]/g, ' ')}${directive}${error ? diagnosis(error) : ''}`);
    }
    if (failed) process.exitCode = 1;
  }

  async stopForcefully({ exitCode = 0 } = {}) {
    process.exit(exitCode || process.exitCode);
  }

  #builder(options) {
    const more = (added) => this.#builder({ ...options, ...added });
    const test = (name, work) => this.#add(name, work, options);
    return {
      test,
      testParallel: test,
      only: { test: (name, work) => this.#add(name, work, { ...options, only: true }) },
      skip: this.skip,
      timeout: (ms) => more({ ms }),
      retry: (times) => more({ times }),
      tags: () => more({}),
      priority: () => more({}),
    };
  }

  #add(name, work, options = {}) {
    const test = { name: [...this.#groups.map((group) => group.name), name].join(' > '), work, ...options };
    test.before = [...this.#before, ...this.#groups.flatMap((group) => group.before)];
    test.after = [...this.#groups.flatMap((group) => group.after), ...this.#after];
    test.testResultPromise = new Promise((done) => (test.settle = done));
    test.testPromise = test.testResultPromise.then(() => test);
    this.#tests.push(test);
    return test;
  }

  async #run(test) {
    if (test.skip) return { directive: ' # SKIP' };
    if (test.todo) return { directive: ' # TODO' };
    const state = { ms: test.ms, left: test.times };
    for (;;) {
      try {
        test.settle(await this.#once(test, state));
        return {};
      } catch (error) {
        if (error instanceof Skipped) return { directive: ` # SKIP ${error.message}` };
        if (state.allowed) return { directive: ' # TODO may fail' };
        state.left ??= 0;
        if (state.left-- > 0) continue;
        return { error: error instanceof Error ? error : new Error(String(error)) };
      }
    }
  }

  async #once(test, state) {
    for (const hook of test.before) await hook();
    try {
      let limit;
      const late = new Promise((_, fail) => {
        state.limit = (ms) => {
          clearTimeout(limit);
          limit = setTimeout(() => fail(new Error(`took more than ${ms} ms`)), ms);
        };
      });
      if (state.ms) state.limit(state.ms);
      const work = Promise.resolve().then(() => test.work(this.#tools(state)));
      return await Promise.race([work, late]).finally(() => clearTimeout(limit));
    } finally {
      for (const hook of test.after) await hook();
    }
  }

  #tools(state) {
    return {
      delayFor: (ms) => sleep(ms),
      delayForRandom: (least, most) => sleep(least + Math.random() * (most - least)),
      timeout: (ms) => state.limit(ms),
      // Asked again by each try.
      retry: (times) => void (state.left ??= times),
      allowFailure: () => void (state.allowed = true),
      skip(reason = '') {
        throw new Skipped(reason);
      },
      skipIf(condition, reason = '') {
        if (condition) throw new Skipped(reason);
      },
      fail(message = 'failed on purpose') {
        throw new Error(message);
      },
      coloredString: (text) => text,
      context: this.#shared,
    };
  }
}

function diagnosis({ message, stack }) {
  return `\n  ---\n  message: ${JSON.stringify(message)}\n  stack: ${JSON.stringify(stack)}\n  ...`;
}

export const tap = new Tap();
