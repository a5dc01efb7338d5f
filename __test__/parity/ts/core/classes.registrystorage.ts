// What the tests import must be resolved to the package that replaces these sources.
throw new Error('the sources of the checkout were loaded');

export {};
