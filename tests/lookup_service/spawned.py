"""`ringway lookup` where workers are spawned and not forked, as on macOS; run as a script."""

if __name__ == "__main__":
    import multiprocessing

    multiprocessing.set_start_method("spawn")

    from ringway.lookup_service.__main__ import main

    main()
